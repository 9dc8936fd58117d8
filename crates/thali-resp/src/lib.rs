//! RESP2 and RESP3: requests parsed from a buffer, replies written into one. No I/O.
