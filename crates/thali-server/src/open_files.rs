//! Open files: the process's limit is raised as far as it goes, and `maxclients` lowered to what is left.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors beside connections: listeners, journal, polls, and the layers above the store's own.
const RESERVED: u64 = 64;

/// Raises the limit to at least what `maxclients` connections need, and to all that the system lets this
/// process have; gives how many connections fit into it.
pub(crate) fn make_room(maxclients: usize) -> usize {
    let wanted = (maxclients as u64).saturating_add(RESERVED);
    let before = getrlimit(Resource::Nofile);
    let (current, maximum) = (before.current.unwrap_or(u64::MAX), before.maximum.unwrap_or(u64::MAX));
    if current >= wanted {
        return clients_max();
    }
    // Only a privileged process may go beyond the hard limit; the rest get what that allows.
    let tries = if maximum < wanted { [wanted, maximum] } else { [maximum, wanted] };
    let set = |limit: u64| {
        let maximum = Some(limit.max(maximum)).filter(|maximum| *maximum != u64::MAX);
        setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum }).is_ok()
    };
    if tries.into_iter().any(set) {
        tracing::info!(
            now = getrlimit(Resource::Nofile).current,
            before = current,
            "the limit of open files is raised"
        );
    }
    clients_max()
}

/// How many connections the limit leaves room for; never 0.
pub(crate) fn clients_max() -> usize {
    let current = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(current.saturating_sub(RESERVED).max(1)).unwrap_or(usize::MAX)
}
