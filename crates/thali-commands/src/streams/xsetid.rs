//! XSETID: sets a stream's last ID and counters, as a copy of it needs them.

use thali_data::stream::{Stream, StreamId};
use thali_resp::Reply;

use super::{WRITE_ONE, group_changed, stream_id};
use crate::{Context, ErrorReply, Flags, Flow, Outcome, Spec, integer, is_word};

pub const SPEC: Spec = Spec {
    name: "xsetid",
    summary: "An internal command for replicating stream values.",
    syntax: "key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
    arity: -3,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
    ..WRITE_ONE
};

pub fn run(cx: &mut Context<'_>, args: &[&[u8]], reply: &mut Reply<'_>) -> Outcome {
    let id = stream_id(args[2])?;
    let (mut entries_added, mut max_deleted) = (None, StreamId::MIN);
    for option in args[3..].chunks(2) {
        match option {
            [word, value] if is_word(word, "ENTRIESADDED") => {
                let count = u64::try_from(integer(value)?)
                    .map_err(|_| ErrorReply::new("ERR entries_added must be positive"))?;
                entries_added = Some(count);
            }
            [word, value] if is_word(word, "MAXDELETEDID") => {
                max_deleted = stream_id(value)?;
                if id < max_deleted {
                    return Err(ErrorReply::new(
                        "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                    ));
                }
            }
            _ => return Err(ErrorReply::SYNTAX),
        }
    }
    let key = args[1];
    let log = &mut cx.write::<Stream>(key)?.ok_or(ErrorReply::NO_SUCH_KEY)?.log;
    if id < log.max_deleted_id() {
        return Err(ErrorReply::new(
            "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
        ));
    }
    if log.last().is_some_and(|last| id < last.id) {
        return Err(ErrorReply::new(
            "ERR The ID specified in XSETID is smaller than the target stream top item",
        ));
    }
    if entries_added.is_some_and(|count| count < log.len()) {
        return Err(ErrorReply::new(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    log.set_last_id(id);
    if let Some(count) = entries_added {
        log.set_entries_added(count);
    }
    if !max_deleted.is_zero() {
        log.set_max_deleted_id(max_deleted);
    }
    group_changed(cx, "xsetid", key);
    reply.ok();
    Ok(Flow::Done)
}

#[cfg(test)]
mod tests {
    use crate::testing::Store;

    #[test]
    fn ids_only_grow() {
        let mut store = Store::new();
        store.check(&[
            ("XSETID s 1-1", "-ERR no such key"),
            ("XADD s 5-0 f v", "$3\n5-0"),
            ("XSETID s 4-0", "-ERR The ID specified in XSETID is smaller than the target stream top item"),
            (
                "XSETID s 9-0 ENTRIESADDED 0",
                "-ERR The entries_added specified in XSETID is smaller than the target stream length",
            ),
            (
                "XSETID s 9-0 MAXDELETEDID 10-0",
                "-ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
            ),
            ("XSETID s 9-0 ENTRIESADDED 7 MAXDELETEDID 8-0", "+OK"),
            (
                "XADD s 9-0 f v",
                "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
            ),
            ("XSETID s 7-0", "-ERR The ID specified in XSETID is smaller than current max_deleted_entry_id"),
        ]);
    }
}
