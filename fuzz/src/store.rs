//! A store without a server: commands run as dispatch would run them.

use std::cell::{Cell, RefCell};

use thali_commands::{Command, Context, Effects, Origin, Random, TABLE};
use thali_data::Limits;
use thali_keyspace::{ENDLESS, Keyspace, Uses};
use thali_resp::{Parser, Protocol, Reply};

/// A keyspace and its clock.
pub struct Store {
    keyspace: Keyspace,
    limits: Limits,
    pub now_ms: Cell<u64>,
    origin: Cell<Origin>,
    /// What commands are journaled as, until another store has followed.
    effects: RefCell<Effects>,
}

impl Store {
    pub fn new(limits: Limits) -> Self {
        Self {
            keyspace: Keyspace::new(2),
            limits,
            now_ms: Cell::new(1_000),
            origin: Cell::new(Origin::Client),
            effects: RefCell::default(),
        }
    }

    /// Runs a request and gives its reply in RESP2.
    pub fn run<A: AsRef<[u8]>>(&self, args: &[A]) -> Vec<u8> {
        let args: Vec<&[u8]> = args.iter().map(AsRef::as_ref).collect();
        let command = command(args[0]);
        let mut out = Vec::new();
        self.context(|cx| {
            if let Err(error) = (command.run)(cx, &args, &mut Reply::new(&mut out, Protocol::Resp2)) {
                out.clear();
                Reply::new(&mut out, Protocol::Resp2).error(error.text());
            }
            if cx.dirty > 0 && !cx.effects_named {
                cx.effects.push(0, &args);
            }
        });
        out
    }

    /// Whether a command takes the request.
    pub fn takes(&self, args: &[&[u8]]) -> bool {
        !self.run(args).starts_with(b"-")
    }

    /// Works on the keyspace; what was found expired goes.
    pub fn context<R>(&self, run: impl FnOnce(&mut Context<'_>) -> R) -> R {
        let (mut random, mut effects) = (Random::new(1), self.effects.borrow_mut());
        let locked = self.keyspace.lock_all(ENDLESS).expect("nobody else is there");
        let uses = Uses::new(self.now_ms.get(), None);
        let mut cx =
            Context::new(locked, 0, self.now_ms.get(), uses, &self.limits, &mut random, &mut effects);
        cx.origin = self.origin.get();
        let result = run(&mut cx);
        cx.remove_expired_seen();
        result
    }

    /// Does what the other store's commands since the last time are journaled as, as a start from the file would.
    pub fn follow(&self, other: &Self) {
        self.origin.set(Origin::Replay);
        for (_, effect) in other.effects.take().iter() {
            let mut parser = Parser::default();
            parser.parse(effect, 0, &thali_resp::Limits::OPEN).expect("an effect is a request");
            let args: Vec<&[u8]> = parser.args(effect).to_vec();
            let reply = self.run(&args);
            assert!(!reply.starts_with(b"-"), "{}: {}", effect.escape_ascii(), reply.escape_ascii());
        }
        self.origin.set(Origin::Client);
    }
}

fn command(name: &[u8]) -> &'static Command {
    let mut commands = TABLE.iter().flat_map(|group| group.iter());
    let found = commands.find(|command| command.spec.name.as_bytes().eq_ignore_ascii_case(name));
    found.expect("targets know their commands")
}
