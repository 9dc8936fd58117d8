//! Lua scripts over a host that runs commands.
