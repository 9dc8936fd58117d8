//! Every data command, one file each, and the table of them all.
