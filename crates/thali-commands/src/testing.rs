//! For unit tests of commands: a keyspace on which requests run as dispatch would run them.

use thali_data::Limits;
use thali_keyspace::locks::ShardId;
use thali_keyspace::{ENDLESS, Hold, Keyspace, Lfu, Uses};
use thali_resp::{Protocol, Reply};

use crate::{Command, Context, Effects, EventClass, Flow, Origin, Random, TABLE, Wait};

/// A store without a server.
pub(crate) struct Store {
    keyspace: Keyspace,
    random: Random,
    pub limits: Limits,
    pub now_ms: u64,
    /// Uses are counted.
    pub lfu: Option<Lfu>,
    pub protocol: Protocol,
    pub origin: Origin,
    /// The last command's effects, as inline text: `SET k v`.
    pub effects: Vec<String>,
    /// The last command's notifications: `set k`.
    pub events: Vec<String>,
    /// The last command's wait, where it was parked.
    pub parked: Option<Wait>,
}

impl Store {
    pub fn new() -> Self {
        Self {
            keyspace: Keyspace::new(4),
            random: Random::new(7),
            limits: Limits::default(),
            now_ms: 1_700_000_000_000,
            lfu: None,
            protocol: Protocol::Resp2,
            origin: Origin::Client,
            effects: Vec::new(),
            events: Vec::new(),
            parked: None,
        }
    }

    /// Runs a request written as redis-cli would take it; gives the raw reply (`""` when parked).
    pub fn run(&mut self, line: &str) -> String {
        let words = thali_resp::split_inline(line.as_bytes()).expect("balanced quotes");
        let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        self.run_args(&args)
    }

    /// As [`Store::run`], for arguments of any bytes.
    pub fn run_args(&mut self, args: &[&[u8]]) -> String {
        String::from_utf8_lossy(&self.run_bytes(args)).into_owned()
    }

    /// As [`Store::run_args`], with the reply's bytes as they are.
    pub fn run_bytes(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let name = String::from_utf8_lossy(args[0]).to_lowercase();
        let command: &Command = TABLE
            .iter()
            .flat_map(|group| group.iter())
            .find(|command| command.spec.name == name)
            .unwrap_or_else(|| panic!("no command {name}"));
        let spec = command.spec.subcommand(args).unwrap_or(command.spec);
        if !spec.arity_fits(args.len()) {
            return format!("-{}\r\n", crate::ErrorReply::wrong_arity(spec.name)).into_bytes();
        }
        let mut effects = Effects::default();
        let all: Vec<_> = (0..self.keyspace.shards_len() as ShardId).collect();
        let hold = if spec.shares_shards() { Hold::Shared } else { Hold::Alone };
        let locked = self.keyspace.hold(&all, hold, ENDLESS).unwrap();
        let uses = Uses::new(self.now_ms, self.lfu);
        let mut context =
            Context::new(locked, 0, self.now_ms, uses, &self.limits, &mut self.random, &mut effects);
        context.events_wanted = EventClass::all();
        context.origin = self.origin;
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, self.protocol);
        self.parked = None;
        match (command.run)(&mut context, args, &mut reply) {
            Ok(Flow::Done) => {}
            Ok(Flow::Park(wait)) => self.parked = Some(wait),
            Ok(Flow::Steps(mut steps)) => {
                while !steps.step(&mut context).unwrap() {}
                let (bytes, from) = steps.reply();
                reply.raw(&bytes[from..]);
            }
            Err(error) => {
                reply.truncate(0);
                reply.error(error.text());
            }
        }
        if context.dirty > 0 && !context.effects_named {
            let db = context.db;
            context.effects.push(db, args);
        }
        if context.locked.is_shared() {
            context.locked = self.keyspace.lock_none();
            context.locked = self.keyspace.lock_all(ENDLESS).unwrap();
        }
        context.remove_expired_seen();
        self.events = context
            .events
            .iter()
            .map(|event| format!("{} {}", event.event, String::from_utf8_lossy(&event.key)))
            .collect();
        drop(context);
        self.effects = effects.iter().map(|(_, bytes)| words_of(bytes)).collect();
        out
    }

    /// Runs each line and compares its reply; `\n` stands for the protocol's line break.
    pub fn check(&mut self, cases: &[(&str, &str)]) {
        for (line, expected) in cases {
            let reply = self.run(line).replace("\r\n", "\n");
            assert_eq!(reply.trim_end_matches('\n'), *expected, "{line}");
        }
    }
}

fn words_of(request: &[u8]) -> String {
    let mut parser = thali_resp::Parser::default();
    parser.parse(request, 0, &thali_resp::Limits::OPEN).expect("an effect is a request");
    let args = parser.args(request);
    args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect::<Vec<_>>().join(" ")
}
