//! What the targets share.
//!
//! - [`store`]: commands on a keyspace without a server, and a copy that is fed their effects.
//! - [`plain`]: JSON and MessagePack, read as plainly as their specifications put it.
//! - [`lua`]: what Lua makes of such values, and what cjson and cmsgpack make of those.

pub mod lua;
pub mod plain;
pub mod store;
