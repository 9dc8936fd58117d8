//! How the fields that take several shapes look in an OpenAPI page.

#![expect(dead_code, reason = "these types describe; nothing makes one")]

use utoipa::ToSchema;

#[derive(ToSchema)]
#[schema(as = Backoff)]
#[serde(untagged)]
pub(crate) enum BackoffSchema {
    /// Milliseconds of a fixed pause.
    Fixed(u64),
    Strategy(BackoffStrategySchema),
}

#[derive(ToSchema)]
#[schema(as = BackoffStrategy)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackoffStrategySchema {
    /// `fixed`, `exponential`, or a name that the worker knows.
    #[schema(min_length = 1, max_length = 512, pattern = r"^[^\x00-\x1f\x7f-\x9f]+$")]
    r#type: String,
    /// Milliseconds.
    #[schema(maximum = 316224000000u64)]
    delay: Option<u64>,
    /// The share of the delay that is left to chance.
    #[schema(minimum = 0, maximum = 1)]
    jitter: Option<f64>,
}

#[derive(ToSchema)]
#[schema(as = Keep)]
#[serde(untagged)]
pub(crate) enum KeepSchema {
    /// `true` removes at once, `false` keeps for ever.
    Remove(bool),
    /// Keep the latest so many.
    Count(u64),
    Policy(KeepPolicySchema),
}

/// Needs `age` or `count`.
#[derive(ToSchema)]
#[schema(as = KeepPolicy)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeepPolicySchema {
    /// Seconds.
    #[schema(maximum = 4294967295u64)]
    age: Option<u64>,
    #[schema(maximum = 4294967295u64)]
    count: Option<u64>,
    /// Most jobs that are removed at a time.
    #[schema(maximum = 4294967295u64)]
    limit: Option<u64>,
}
