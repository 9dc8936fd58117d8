//! redis.conf's language: one table of directives, read from a file, the environment, the command line and
//! CONFIG, in this order of strength.
//!
//! A value is kept as the text that CONFIG GET shows; [`Settings`] is what the server works with. Nothing
//! here acts on a change: who sets something asks for new settings and hands them round.

mod error;
mod kind;
mod rewrite;
mod settings;
mod source;
mod table;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use error::{ConfigError, SetError};
pub(crate) use rewrite::replace as replace_file;
pub use settings::{
    ClientCertificates, Eviction, GatewayAuth, MemoryLimit, OutputLimit, SaveRule, Settings, TlsSettings,
};
use table::{Change, TABLE};

use crate::acl;
use crate::names::Names;

/// The configuration of a process.
#[derive(Clone, Debug)]
pub struct Config {
    /// Canonical text of each row of the table.
    values: Vec<String>,
    /// What they were before anybody said anything.
    defaults: Vec<String>,
    /// The rows that somebody set.
    given: Vec<bool>,
    file: Option<PathBuf>,
    /// Directives that are no settings: `rename-command`, `user`, `loadmodule`; each with its words.
    others: Vec<Vec<String>>,
    /// While sources are read, several `save` lines add up.
    save_begun: bool,
}

impl Default for Config {
    fn default() -> Self {
        let canonical = |d: &table::Directive| match d.kind {
            // `dir` is the only default that depends on where the process stands.
            kind::Kind::Dir => {
                d.kind.parse(d.name, &[d.default], "").unwrap_or_else(|_| d.default.to_owned())
            }
            _ => d.default.to_owned(),
        };
        let values: Vec<String> = TABLE.iter().map(canonical).collect();
        Config {
            defaults: values.clone(),
            values,
            given: vec![false; TABLE.len()],
            file: None,
            others: Vec::new(),
            save_begun: false,
        }
    }
}

impl Config {
    /// A file (the first argument, where it is no option), then the environment, then `--name value…`.
    /// Gives the names in the environment that begin with `THALI_` and name no directive.
    pub fn from_sources(
        args: &[String],
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Config, Vec<String>), ConfigError> {
        Config::default().overridden(args, env)
    }

    /// What redis-server begins with: no append-only file, the data where it was started, no HTTP.
    pub fn of_redis_server() -> Config {
        let mut config = Config::default();
        for (name, value) in [("appendonly", "no"), ("dir", "."), ("http-bind", "")] {
            let index = Self::index(name);
            config.values[index] = config.parse_value(index, value).expect("a good value");
        }
        config.defaults.clone_from(&config.values);
        config
    }

    /// Whether somebody gave HTTP a port and no address.
    pub fn gives_http_port_alone(&self) -> bool {
        self.is_given("http-port") && !self.is_given("http-bind")
    }

    /// As [`Config::from_sources`], where nobody says otherwise with this one's values.
    pub fn overridden(
        self,
        args: &[String],
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<(Config, Vec<String>), ConfigError> {
        let mut config = self;
        let (file, options) = match args.first() {
            Some(first) if !first.starts_with("--") => (Some(first), &args[1..]),
            _ => (None, args),
        };
        if let Some(file) = file {
            config.load_file(Path::new(file))?;
        }
        let unknown = config.load_env(env)?;
        config.load_args(options)?;
        Ok((config, unknown))
    }

    /// The default with some values changed, for tests and tools; also of directives fixed at the start.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, SetError> {
        let index = table::find(name).ok_or_else(|| SetError::unknown(name))?;
        let parsed = self.parse_value(index, value).map_err(|why| SetError::refused(name, why))?;
        self.put(index, parsed);
        Ok(self)
    }

    /// Names and values that match a glob pattern; an alias is found under its own name.
    pub fn get(&self, pattern: &str) -> Vec<(String, String)> {
        let is_pattern = pattern.contains(['*', '?', '[']);
        let matches = |name: &&'static str| {
            thali_keyspace::glob::matches_ignore_case(pattern.as_bytes(), name.as_bytes())
        };
        let mut found = Vec::new();
        for (index, directive) in TABLE.iter().enumerate() {
            if is_pattern && directive.is_hidden {
                continue;
            }
            for name in [Some(directive.name), directive.alias].into_iter().flatten().filter(matches) {
                found.push((name.to_owned(), self.value(index).to_owned()));
            }
        }
        found
    }

    /// Changes all of the pairs or none, as CONFIG SET does for a client elsewhere.
    pub fn set(&mut self, pairs: &[(String, String)]) -> Result<(), SetError> {
        self.set_as(pairs, false)
    }

    /// The same for a client on this machine, which `enable-protected-configs local` trusts.
    pub fn set_as(&mut self, pairs: &[(String, String)], is_local: bool) -> Result<(), SetError> {
        let allows_protected = match self.text("enable-protected-configs") {
            "yes" => true,
            "local" => is_local,
            _ => false,
        };
        let mut changes: Vec<(usize, String)> = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let index = table::find(name).ok_or_else(|| SetError::unknown(name))?;
            let refuse = |why: String| SetError::refused(name, why);
            match TABLE[index].change {
                Change::Start => return Err(refuse("can't set immutable config".into())),
                Change::Protected if !allows_protected => {
                    return Err(refuse("can't set protected config".into()));
                }
                _ => {}
            }
            if changes.iter().any(|(changed, _)| *changed == index) {
                return Err(refuse("duplicate parameter".into()));
            }
            changes.push((index, self.parse_value(index, value).map_err(refuse)?));
        }
        for (index, value) in changes {
            self.put(index, value);
        }
        Ok(())
    }

    /// The file that the configuration came from and that `rewrite` changes.
    pub fn file(&self) -> Option<String> {
        self.file.as_ref().map(|path| path.to_string_lossy().into_owned())
    }

    /// Typed values.
    pub fn settings(&self) -> Settings {
        Settings::from(self)
    }

    /// What stands in the file and is no setting: `rename-command`, `user` and `loadmodule` lines, in words.
    pub fn others(&self) -> &[Vec<String>] {
        &self.others
    }

    /// `rename-command`: old and new names, in their order.
    pub(crate) fn renames(&self) -> impl Iterator<Item = (&str, &str)> {
        self.others.iter().filter(|words| words[0] == "rename-command").map(|words| (&*words[1], &*words[2]))
    }

    /// Refuses what the server cannot honour and what would open it to strangers, in one sentence that
    /// says what to do. To be asked before the start.
    pub fn check(&self) -> Result<(), String> {
        if let Some(other) = self.others.iter().find(|words| words[0] == "loadmodule") {
            return Err(format!("'{}' is not supported yet; remove it from the configuration", other[0]));
        }
        Names::new(self.renames())?;
        let unsupported = [
            (!self.text("replicaof").is_empty(), "replicaof"),
            (self.flag("cluster-enabled"), "cluster-enabled yes"),
        ];
        if let Some((_, name)) = unsupported.iter().find(|(used, _)| *used) {
            return Err(format!("'{name}' is not supported yet; remove it from the configuration"));
        }
        let is_open = |address: &String| !is_loopback(address.trim_start_matches('-'));
        let users = acl::configured_users(self)?;
        let is_guarded = !users[acl::DEFAULT].lets_everybody_in() || !self.flag("protected-mode");
        match self.words("bind").iter().find(|address| !is_guarded && is_open(address)) {
            Some(open) => Err(format!(
                "bind {open} lets other machines in without a password; set requirepass, \
                 or bind 127.0.0.1, or say protected-mode no if the network is trusted"
            )),
            None => Ok(()),
        }
    }

    /// Whether this process's own layers above the store get in: they are the user `default`, with
    /// `requirepass`. The error is a sentence that says what to do.
    pub fn check_own_login(&self) -> Result<(), String> {
        let password = self.text("requirepass");
        match acl::configured_users(self)?[acl::DEFAULT].accepts(password.as_bytes()) {
            true => Ok(()),
            false => Err("HTTP, queues and sockets reach the store as the user 'default' with requirepass, which the \
                          configured users do not allow. Turn them off with http-bind '', and run them as a process \
                          of their own under another user: thali serve --store redis://user:password@host:port"
                .into()),
        }
    }

    fn parse_value(&self, index: usize, value: &str) -> Result<String, String> {
        let directive = &TABLE[index];
        let words: Vec<&str> =
            if directive.kind.is_list() { value.split(' ').collect() } else { vec![value] };
        directive.kind.parse(directive.name, &words, &self.values[index])
    }

    fn put(&mut self, index: usize, value: String) {
        self.values[index] = value;
        self.given[index] = true;
    }

    fn index(name: &str) -> usize {
        table::find(name).unwrap_or_else(|| panic!("the table lacks {name}"))
    }

    fn is_given(&self, name: &str) -> bool {
        self.given[Self::index(name)]
    }

    /// A row's value. Redis's default of `save` is for those who have no append-only file: where there is
    /// one, dumps are made when somebody asks for them.
    fn value(&self, index: usize) -> &str {
        let is_default_save = TABLE[index].name == "save" && !self.given[index];
        if is_default_save && self.flag("appendonly") { "" } else { &self.values[index] }
    }

    fn text(&self, name: &str) -> &str {
        self.value(Self::index(name))
    }

    fn some(&self, name: &str) -> Option<String> {
        Some(self.text(name).to_owned()).filter(|text| !text.is_empty())
    }

    fn words(&self, name: &str) -> Vec<String> {
        self.text(name).split_whitespace().map(str::to_owned).collect()
    }

    fn flag(&self, name: &str) -> bool {
        self.text(name) == "yes"
    }

    fn number<T: FromStr>(&self, name: &str) -> T {
        let text = self.text(name);
        text.parse()
            .unwrap_or_else(|_| panic!("{name} {text}: the table lets in what the settings cannot hold"))
    }
}

fn is_loopback(address: &str) -> bool {
    match address.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => address.eq_ignore_ascii_case("localhost"),
    }
}
