//! What a key costs, for MEMORY USAGE.

use thali_keyspace::{Entry, Value};

/// Bytes of a key, its entry and what its value has on the heap, as the structures know them: nothing is
/// sampled.
pub fn usage_bytes(key: &[u8], entry: &Entry) -> usize {
    let value = match &entry.value {
        Value::Str(v) => v.memory_bytes(),
        Value::List(v) => v.memory_bytes(),
        Value::Set(v) => v.memory_bytes(),
        Value::Hash(v) => v.memory_bytes(),
        Value::SortedSet(v) => v.memory_bytes(),
        Value::Stream(v) => v.memory_bytes(),
    };
    value + size_of::<Entry>() + key.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_value_costs_more() {
        let cost = |text: &[u8]| usage_bytes(b"k", &Entry::new(Value::Str(text.into())));
        assert!(cost(b"x") > 0 && cost(&[b'x'; 1000]) >= cost(b"x") + 900);
    }
}
