//! Development only: starts servers and peers on free ports and reads their logs.
