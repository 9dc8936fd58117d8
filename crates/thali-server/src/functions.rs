//! The libraries of functions: one namespace for all loops.
//!
//! A [`LibrarySet`] never changes; a change makes another one and puts it in the old one's place. Each loop
//! has an interpreter of its own, which loads a library when one of its functions is first called there, and
//! forgets what is not in the set any more.
//!
//! INVARIANT: who puts a set in place holds every shard and the script token (or nobody is served yet), until
//! the effect has its place in the journal. So changes have one order, the same in the file; a snapshot, which
//! holds every shard at its point in time, sees the set of that moment; and what a function did stands in the
//! file on the right side of its library's change.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use thali_commands::{ErrorReply, is_word};
use thali_keyspace::ENDLESS;
use thali_rdb::{RestoreFunctionsError, restore_functions};
use thali_script::{Function, Libraries, Library, LibraryText, Limits, LogLevel, Watchdog};

use crate::call::{Call, Shared, Side};

/// For FUNCTION LOAD, as in Redis: the code should register functions and nothing else.
const LOAD_TIME_MAX: Duration = Duration::from_millis(500);

/// For libraries that were loaded once before, elsewhere: FUNCTION RESTORE, dumps and the append-only file.
const RESTORE_TIME_MAX: Duration = Duration::from_secs(10);

/// All libraries at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct LibrarySet {
    by_name: BTreeMap<String, Arc<Library>>,
    /// Functions in lower case, as they are called in any.
    functions: HashMap<String, Found>,
}

/// A function: its library and its place there.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub library: Arc<Library>,
    pub at: usize,
}

impl Found {
    pub fn function(&self) -> &Function {
        &self.library.functions()[self.at]
    }
}

impl LibrarySet {
    /// The libraries, by name.
    pub fn libraries(&self) -> impl ExactSizeIterator<Item = &Arc<Library>> {
        self.by_name.values()
    }

    pub fn functions_len(&self) -> usize {
        self.functions.len()
    }

    /// Bytes of all texts.
    pub fn bytes(&self) -> usize {
        self.libraries().map(|library| library.text().len()).sum()
    }

    pub fn find(&self, function: &[u8]) -> Option<&Found> {
        let lower = function.to_ascii_lowercase();
        self.functions.get(std::str::from_utf8(&lower).ok()?)
    }

    fn holds(&self, library: &Arc<Library>) -> bool {
        self.by_name.get(library.name()).is_some_and(|own| Arc::ptr_eq(own, library))
    }

    /// Adds libraries, all or none: after an error the set is not to be used.
    fn join(&mut self, libraries: &[Arc<Library>], replaces: bool) -> Result<(), ErrorReply> {
        for library in libraries {
            match self.by_name.remove(library.name()) {
                Some(_) if !replaces => return Err(exists("Library", library.name())),
                Some(old) => self.unlink(&old),
                None => {}
            }
        }
        for library in libraries {
            self.link(library)?;
        }
        Ok(())
    }

    fn link(&mut self, library: &Arc<Library>) -> Result<(), ErrorReply> {
        for (at, function) in library.functions().iter().enumerate() {
            let found = Found { library: Arc::clone(library), at };
            if self.functions.insert(function.name.to_ascii_lowercase(), found).is_some() {
                return Err(exists("Function", &function.name));
            }
        }
        match self.by_name.insert(library.name().to_owned(), Arc::clone(library)) {
            Some(old) => Err(exists("Library", old.name())),
            None => Ok(()),
        }
    }

    fn unlink(&mut self, library: &Library) {
        for function in library.functions() {
            self.functions.remove(&function.name.to_ascii_lowercase());
        }
    }
}

fn exists(what: &str, name: &str) -> ErrorReply {
    ErrorReply::owned(format!("ERR {what} {name} already exists"))
}

/// The set in force.
#[derive(Debug, Default)]
pub(crate) struct Functions {
    current: ArcSwap<LibrarySet>,
}

impl Functions {
    pub fn current(&self) -> Arc<LibrarySet> {
        self.current.load_full()
    }

    /// Puts another set in place; see the module for what the caller holds.
    pub fn put(&self, set: LibrarySet) {
        self.current.store(Arc::new(set));
    }
}

/// What a FUNCTION request changes.
#[derive(Debug)]
pub(crate) enum Change {
    Load { library: Arc<Library>, replaces: bool },
    Delete(String),
    Flush,
    Restore { libraries: Vec<Arc<Library>>, policy: Policy },
}

/// What FUNCTION RESTORE does with the libraries that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Append,
    Replace,
    Flush,
}

impl Change {
    /// Reads a request that is one of FUNCTION's writing subcommands, and runs the code of the libraries in
    /// it, for which no shard is needed.
    pub fn prepare(
        args: &[&[u8]],
        set: &LibrarySet,
        libraries: &mut Libraries,
        load_time_max: Duration,
    ) -> Result<Self, ErrorReply> {
        match args[1].to_ascii_lowercase().as_slice() {
            b"load" => Self::load(&args[2..], set, libraries, load_time_max),
            b"delete" => Ok(Self::Delete(String::from_utf8_lossy(args[2]).into_owned())),
            b"flush" => match &args[2..] {
                [] => Ok(Self::Flush),
                [mode] if is_word(mode, "SYNC") || is_word(mode, "ASYNC") => Ok(Self::Flush),
                [_] => Err(ErrorReply::new("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")),
                _ => Err(wrong_arguments(args[1])),
            },
            b"restore" => Self::restore(args, libraries),
            _ => Err(wrong_arguments(args[1])),
        }
    }

    fn load(
        args: &[&[u8]],
        set: &LibrarySet,
        libraries: &mut Libraries,
        time_max: Duration,
    ) -> Result<Self, ErrorReply> {
        let (code, options) = args.split_last().ok_or(ErrorReply::new("ERR Function code is missing"))?;
        if let Some(other) = options.iter().find(|option| !is_word(option, "REPLACE")) {
            let other = String::from_utf8_lossy(other);
            return Err(ErrorReply::owned(format!("ERR Unknown option given: {other}")));
        }
        let replaces = !options.is_empty();
        let text = LibraryText::new(*code).map_err(|error| ErrorReply::owned(error.to_string()))?;
        if !replaces && set.by_name.contains_key(text.name()) {
            return Err(loaded_already(text.name()));
        }
        let library = run_code(libraries, text, time_max)?;
        Ok(Self::Load { library, replaces })
    }

    fn restore(args: &[&[u8]], libraries: &mut Libraries) -> Result<Self, ErrorReply> {
        let policy = match &args[3..] {
            [] => Policy::Append,
            [word] if is_word(word, "APPEND") => Policy::Append,
            [word] if is_word(word, "REPLACE") => Policy::Replace,
            [word] if is_word(word, "FLUSH") => Policy::Flush,
            [_] => {
                return Err(ErrorReply::new(
                    "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
                ));
            }
            _ => return Err(wrong_arguments(args[1])),
        };
        let codes = restore_functions(args[2]).map_err(|error| {
            ErrorReply::new(match error {
                RestoreFunctionsError::Footer(_) => "ERR DUMP payload version or checksum are wrong",
                RestoreFunctionsError::PreRelease(_) => "ERR Pre-GA function format not supported",
                RestoreFunctionsError::Other(_) => "ERR given type is not a function",
                RestoreFunctionsError::Damaged(_) => "ERR Failed loading library payload",
            })
        })?;
        let restored: Result<Vec<_>, ErrorReply> = codes
            .into_iter()
            .map(|code| {
                let text = LibraryText::new(code).map_err(|error| ErrorReply::owned(error.to_string()))?;
                run_code(libraries, text, RESTORE_TIME_MAX)
            })
            .collect();
        let libraries = restored?;
        // As Redis: a payload must be whole in itself before anything else is looked at.
        LibrarySet::default().join(&libraries, false)?;
        Ok(Self::Restore { libraries, policy })
    }

    /// The set after the change.
    pub fn apply(&self, set: &LibrarySet) -> Result<LibrarySet, ErrorReply> {
        let mut set = set.clone();
        match self {
            Self::Load { library, replaces } => {
                if !replaces && set.by_name.contains_key(library.name()) {
                    return Err(loaded_already(library.name()));
                }
                set.join(std::slice::from_ref(library), *replaces)?;
            }
            Self::Delete(name) => {
                let library = set.by_name.remove(name).ok_or(ErrorReply::new("ERR Library not found"))?;
                set.unlink(&library);
            }
            Self::Flush => set = LibrarySet::default(),
            Self::Restore { libraries, policy } => {
                if *policy == Policy::Flush {
                    set = LibrarySet::default();
                }
                set.join(libraries, *policy == Policy::Replace)?;
            }
        }
        Ok(set)
    }
}

/// FUNCTION LOAD quotes the name, FUNCTION RESTORE does not.
fn loaded_already(name: &str) -> ErrorReply {
    ErrorReply::owned(format!("ERR Library '{name}' already exists"))
}

pub(crate) fn wrong_arguments(subcommand: &[u8]) -> ErrorReply {
    let shown = String::from_utf8_lossy(&subcommand[..subcommand.len().min(128)]);
    ErrorReply::owned(format!(
        "ERR unknown subcommand or wrong number of arguments for '{shown}'. Try FUNCTION HELP."
    ))
}

fn run_code(
    libraries: &mut Libraries,
    text: LibraryText,
    time_max: Duration,
) -> Result<Arc<Library>, ErrorReply> {
    libraries
        .load(text, time_max, &mut write_log)
        .map_err(|error| ErrorReply::owned(one_line(&error.to_string())))
}

/// Errors of Lua may quote the code.
fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

/// `redis.log`.
pub(crate) fn write_log(level: LogLevel, message: &[u8]) {
    let message = String::from_utf8_lossy(message);
    match level {
        LogLevel::Debug => tracing::debug!(target: "script", "{message}"),
        LogLevel::Verbose | LogLevel::Notice => tracing::info!(target: "script", "{message}"),
        LogLevel::Warning => tracing::warn!(target: "script", "{message}"),
    }
}

/// Reads a request and runs the code in it, in this loop's interpreter.
pub(crate) fn prepare(call: &mut Call<'_, '_>, args: &[&[u8]]) -> Result<Change, ErrorReply> {
    let mut libraries = take_libraries(call)?;
    let set = call.shared.functions.current();
    let change = Change::prepare(args, &set, &mut libraries, LOAD_TIME_MAX);
    call.side.libraries = Some(libraries);
    change
}

/// This loop's interpreter for functions, made where there is none. The caller puts it back.
pub(crate) fn take_libraries(call: &mut Call<'_, '_>) -> Result<Box<Libraries>, ErrorReply> {
    forget_replaced(call.shared, call.side);
    if let Some(libraries) = call.side.libraries.take() {
        return Ok(libraries);
    }
    let mut libraries = new_libraries(&call.shared.scripts.watchdog).map_err(|error| {
        ErrorReply::owned(format!("ERR cannot start the interpreter of functions: {error}"))
    })?;
    // Else all loops would draw the same numbers.
    libraries.seed(call.cx.random.next_u64() as i32);
    Ok(Box::new(libraries))
}

fn new_libraries(watchdog: &Arc<Watchdog>) -> io::Result<Libraries> {
    Libraries::new(Limits::default(), watchdog)
}

/// Forgets what this loop loaded and is not in force any more.
pub(crate) fn forget_replaced(shared: &Shared, side: &mut Side) {
    let Some(libraries) = &mut side.libraries else { return };
    let current = shared.functions.current.load();
    if !Arc::ptr_eq(&current, &side.libraries_seen) {
        libraries.retain(|library| current.holds(library));
        side.libraries_seen = Arc::clone(&current);
    }
}

/// Brings libraries in from files, on one thread, while clients get LOADING.
pub(crate) struct Loader {
    set: LibrarySet,
    libraries: Libraries,
}

impl Loader {
    /// Begins with the libraries that are there.
    pub fn new(shared: &Shared) -> io::Result<Self> {
        let set = LibrarySet::clone(&shared.functions.current());
        Ok(Self { set, libraries: new_libraries(&shared.scripts.watchdog)? })
    }

    /// Puts all in place, once what they came from is known to be whole. The caller holds no shard.
    pub fn finish(self, shared: &Shared) {
        let held = shared.keyspace.lock_all(ENDLESS);
        shared.functions.put(self.set);
        drop(held);
    }

    /// A library of a dump. Where one of its name is there it is replaced, or stops the loading.
    pub fn add(&mut self, code: &[u8], replaces: bool) -> Result<(), String> {
        let words: &[&[u8]] = if replaces { &[b"REPLACE", code] } else { &[code] };
        let change = Change::load(words, &self.set, &mut self.libraries, RESTORE_TIME_MAX);
        self.set = change.and_then(|change| change.apply(&self.set)).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// A request of the append-only file.
    pub fn replay(&mut self, args: &[&[u8]]) -> Result<(), String> {
        let change = Change::prepare(args, &self.set, &mut self.libraries, RESTORE_TIME_MAX);
        self.set = change.and_then(|change| change.apply(&self.set)).map_err(|error| error.to_string())?;
        Ok(())
    }
}

#[cfg(test)]
impl Loader {
    /// Without libraries.
    pub fn without_server() -> Self {
        let watchdog = Watchdog::start(Duration::from_secs(5)).unwrap();
        Loader { set: LibrarySet::default(), libraries: new_libraries(&watchdog).unwrap() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(library: &str, functions: &[&str]) -> Vec<u8> {
        let mut code = format!("#!lua name={library}\n");
        for function in functions {
            code += &format!("redis.register_function('{function}', function() return '{library}' end)\n");
        }
        code.into_bytes()
    }

    fn names(set: &LibrarySet) -> Vec<String> {
        set.libraries().map(|library| library.name().to_owned()).collect()
    }

    #[test]
    fn a_refused_library_leaves_all_as_it_was() {
        let mut loader = Loader::without_server();
        loader.add(&code("one", &["f", "g"]), false).unwrap();
        loader.add(&code("two", &["h"]), false).unwrap();
        for (code, replaces, error) in [
            (code("one", &["x"]), false, "ERR Library 'one' already exists"),
            (code("three", &["F"]), false, "ERR Function F already exists"),
            (code("two", &["h", "g"]), true, "ERR Function g already exists"),
            (b"#!lua name=two\nreturn 1".to_vec(), true, "ERR No functions registered"),
        ] {
            assert_eq!(loader.add(&code, replaces).unwrap_err(), error);
            assert_eq!(names(&loader.set), ["one", "two"]);
            assert_eq!(loader.set.functions_len(), 3);
            assert_eq!(loader.set.find(b"H").unwrap().library.name(), "two");
        }
    }

    #[test]
    fn a_replaced_librarys_functions_are_gone() {
        let mut loader = Loader::without_server();
        loader.add(&code("one", &["f", "g"]), false).unwrap();
        loader.add(&code("one", &["g", "h"]), true).unwrap();
        assert!(loader.set.find(b"f").is_none());
        assert_eq!(loader.set.functions_len(), 2);
        loader.replay(&[b"FUNCTION", b"DELETE", b"one"]).unwrap();
        assert!(loader.set.find(b"g").is_none() && names(&loader.set).is_empty());
    }
}
