//! Arguments that the commands of fields' times share: `FIELDS numfields field …`, and moments.
//!
//! SOURCE: redis 8.0 `t_hash.c`, `hexpireGenericCommand`, `parseExpireTime`, for the words of refusals.

use crate::{Context, ErrorReply, is_word, parse_i64};

/// Later moments are refused, so that all of a hash's fit in its index. SOURCE: redis 7.4 `t_hash.c`,
/// `HFE_MAX_ABS_TIME_MSEC`.
const MOMENT_MAX_UNIX_MS: i64 = (1 << 46) - 1;

const NO_FIELDS: ErrorReply =
    ErrorReply::new("ERR Mandatory argument FIELDS is missing or not at the right position");
const NUMBER_DIFFERS: ErrorReply =
    ErrorReply::new("ERR The `numfields` parameter must match the number of arguments");
pub(super) const NUMBER_NOT_POSITIVE: ErrorReply =
    ErrorReply::new("ERR Number of fields must be a positive integer");

/// `FIELDS numfields field …`, up to the end.
pub(super) fn fields<'a, 'r>(
    args: &'a [&'r [u8]],
    number_not_positive: ErrorReply,
) -> Result<&'a [&'r [u8]], ErrorReply> {
    let [word, number, fields @ ..] = args else { return Err(NO_FIELDS) };
    if !is_word(word, "FIELDS") {
        return Err(NO_FIELDS);
    }
    let number = parse_i64(number).filter(|number| *number > 0).ok_or(number_not_positive)?;
    if number as u64 != fields.len() as u64 {
        return Err(NUMBER_DIFFERS);
    }
    Ok(fields)
}

/// How a moment is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    pub unit_ms: i64,
    /// From now on; else since 1970.
    pub is_relative: bool,
}

impl Clock {
    /// Of the option EX, PX, EXAT or PXAT.
    pub fn of_option(word: &[u8]) -> Option<Self> {
        let options = [("EX", 1000, true), ("PX", 1, true), ("EXAT", 1000, false), ("PXAT", 1, false)];
        let (_, unit_ms, is_relative) = options.into_iter().find(|(name, ..)| is_word(word, name))?;
        Some(Self { unit_ms, is_relative })
    }

    /// The moment in Unix milliseconds.
    pub fn moment(self, cx: &Context<'_>, text: &[u8], command: &str) -> Result<u64, ErrorReply> {
        let value = parse_i64(text).ok_or(ErrorReply::NOT_INTEGER)?;
        if value < 0 {
            return Err(ErrorReply::new("ERR invalid expire time, must be >= 0"));
        }
        let base = if self.is_relative { cx.now_ms as i64 } else { 0 };
        let moment = value.checked_mul(self.unit_ms).and_then(|ms| ms.checked_add(base));
        moment
            .filter(|moment| *moment <= MOMENT_MAX_UNIX_MS)
            .map(|moment| moment as u64)
            .ok_or_else(|| ErrorReply::owned(format!("ERR invalid expire time in '{command}' command")))
    }
}

/// A request about some fields of a key: `head`, then `FIELDS numfields field …`.
pub(super) fn request<'r>(head: &[&'r [u8]], number: &'r [u8], fields: &[&'r [u8]]) -> Vec<&'r [u8]> {
    [head, &[b"FIELDS", number], fields].concat()
}
