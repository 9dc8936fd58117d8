//! Bringing the keyspace back from the journal, while clients get LOADING.

use std::cell::RefCell;
use std::sync::atomic::AtomicU64;

use thali_commands::{Context, Effects, Flow, Origin, Random};
use thali_journal::{Effect, Recovery};
use thali_keyspace::{ENDLESS, Keyspace};
use thali_resp::{Protocol, Reply};

use crate::config::Settings;
use crate::functions::Loader;
use crate::loading::{self, GIVEN_UP, Target};
use crate::table::{self, Handler};
use crate::unit::Plan;

/// Replays every record; gives their count.
pub(crate) fn replay(
    recovery: Recovery,
    keyspace: &Keyspace,
    settings: &Settings,
    now_ms: u64,
    functions: &mut Loader,
    gives_up: &(dyn Fn() -> bool + Sync),
) -> Result<thali_journal::RecoveryReport, thali_journal::JournalError> {
    let (limits, dbs_len, delay) = (&settings.limits, settings.databases, settings.key_load_delay);
    let uses = settings.uses(now_ms);
    let mut random = Random::new(now_ms);
    let mut effects = Effects::default();
    let mut out = Vec::new();
    // The base and the requests behind it bring libraries.
    let functions = RefCell::new(functions);
    let mut apply = |effect: &Effect<'_>| -> Result<(), String> {
        let Effect { db, args } = *effect;
        let Some(row) = table::find(args[0]) else {
            let name = String::from_utf8_lossy(args[0]);
            return Err(format!("Unknown command '{name}' reading the append only file"));
        };
        if row.spec.name == "function" && args.len() > 1 {
            return functions.borrow_mut().replay(args);
        }
        let Handler::Data(run) = row.handler else {
            return Err(format!("'{}' does not belong into a journal", row.spec.name));
        };
        let spec = row.spec.subcommand(args).unwrap_or(row.spec);
        let mut plan = Plan::default();
        plan.add(keyspace, spec, args);
        let Some(locked) = plan.lock_in(keyspace, ENDLESS) else { return Err("a shard is locked".into()) };
        let mut cx = Context::new(locked, db, now_ms, uses, limits, &mut random, &mut effects);
        cx.dbs_len = dbs_len;
        cx.origin = Origin::Replay;
        out.clear();
        match run(&mut cx, args, &mut Reply::new(&mut out, Protocol::Resp2)) {
            Ok(Flow::Done) => {}
            Ok(Flow::Park(_)) => return Err(format!("'{}' found nothing to take", row.spec.name)),
            Err(error) => return Err(error.to_string()),
        }
        drop(cx);
        effects.clear();
        if !delay.is_zero() {
            std::thread::sleep(delay);
        }
        Ok(())
    };
    let mut groups: u32 = 0;
    recovery.replay_with_base(
        &mut |group| {
            groups = groups.wrapping_add(1);
            if (groups.is_multiple_of(GROUPS_A_LOOK) || !delay.is_zero()) && gives_up() {
                return Err(GIVEN_UP.into());
            }
            group.iter().try_for_each(&mut apply)
        },
        &mut |source, source_len, _| {
            let target = Target {
                keyspace,
                limits,
                uses,
                dbs_len,
                expired_before_ms: None,
                source_len,
                replaces: false,
                delay,
                gives_up,
                // The journal counts what it hands out.
                read: &AtomicU64::new(0),
            };
            loading::load(source, &target, &mut functions.borrow_mut()).map(|loaded| loaded.bytes)
        },
    )
}

/// Groups between two questions whether to give up.
const GROUPS_A_LOOK: u32 = 1024;
