//! All users by name, and what connects a session with one.
//!
//! Lock order: the registry's lock is taken last and held for no I/O.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use parking_lot::RwLock;

use super::file;
use super::log::Log;
use super::user::{self, Rules};
use crate::config::Config;

pub(crate) const DEFAULT: &[u8] = b"default";

type Name = Box<[u8]>;

/// A user, as its sessions hold it. Its rules change in place, so that they hold for all of them at once.
#[derive(Debug)]
pub(crate) struct User {
    name: Name,
    /// INVARIANT: set only while `rules` hold nothing back.
    may_all: AtomicBool,
    rules: ArcSwap<Rules>,
}

impl User {
    fn new(name: &[u8], rules: Rules) -> Arc<Self> {
        let may_all = AtomicBool::new(rules.is_all());
        Arc::new(Self { name: name.into(), may_all, rules: ArcSwap::from_pointee(rules) })
    }

    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What each gate asks first.
    pub fn may_all(&self) -> bool {
        self.may_all.load(Ordering::Acquire)
    }

    pub fn rules(&self) -> Guard<Arc<Rules>> {
        self.rules.load()
    }

    fn set_rules(&self, rules: Rules) {
        let may_all = rules.is_all();
        self.may_all.store(false, Ordering::Release);
        self.rules.store(Arc::new(rules));
        self.may_all.store(may_all, Ordering::Release);
    }
}

/// Users that lost something which their connections may still have.
#[derive(Debug, Default)]
pub(crate) struct Revoked {
    /// Deleted: their connections end.
    pub gone: Vec<Arc<User>>,
    /// Channels were taken away: subscribers to them end.
    pub narrowed: Vec<Arc<User>>,
}

/// The users of a server, and the log of what they were refused.
#[derive(Debug)]
pub(crate) struct Acl {
    /// As many as administrators make.
    users: RwLock<BTreeMap<Name, Arc<User>>>,
    default: Arc<User>,
    /// `aclfile`.
    pub path: Option<PathBuf>,
    pub log: Log,
}

impl Acl {
    /// The users that the configuration names. The error is a sentence.
    pub fn from_config(config: &Config) -> Result<Self, String> {
        let users: BTreeMap<Name, Arc<User>> = configured_users(config)?
            .into_iter()
            .map(|(name, rules)| {
                let user = User::new(&name, rules);
                (name, user)
            })
            .collect();
        let default = Arc::clone(&users[DEFAULT]);
        let path = config.settings().aclfile;
        Ok(Self { users: RwLock::new(users), default, path, log: Log::default() })
    }

    /// Whom each connection begins as.
    pub fn default_user(&self) -> &Arc<User> {
        &self.default
    }

    /// Whether connections need no password.
    pub fn lets_everybody_in(&self) -> bool {
        self.default.rules().lets_everybody_in()
    }

    pub fn find(&self, name: &[u8]) -> Option<Arc<User>> {
        self.users.read().get(name).cloned()
    }

    /// The user, where the password is one of theirs and they are on.
    pub fn authenticate(&self, name: &[u8], password: &[u8]) -> Option<Arc<User>> {
        self.find(name).filter(|user| user.rules().accepts(password))
    }

    /// The user of a certificate that was found to be good: no password is asked for.
    pub fn find_on(&self, name: &[u8]) -> Option<Arc<User>> {
        self.find(name).filter(|user| user.rules().is_on())
    }

    /// In the order of their names.
    pub fn all(&self) -> Vec<Arc<User>> {
        self.users.read().values().cloned().collect()
    }

    /// `user <name> <rules>` for each, as ACL LIST shows it and files hold it.
    pub fn lines(&self) -> Vec<Vec<u8>> {
        self.all().iter().map(|user| line(user)).collect()
    }

    /// The `user` lines of a configuration file; none where `aclfile` holds the users. `default` has no line
    /// while `requirepass` says all there is to say: a change of it by hand would be in vain beside one.
    pub fn config_lines(&self, requirepass: &str) -> Vec<String> {
        if self.path.is_some() {
            return Vec::new();
        }
        let is_plain =
            |user: &User| user.name() == DEFAULT && **user.rules() == Rules::of_default(requirepass);
        let lines = self.all().into_iter().filter(|user| !is_plain(user)).map(|user| line(&user));
        lines.map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
    }

    /// ACL SETUSER: makes or changes a user. The error is for a reply behind `ERR`.
    pub fn set_user(&self, name: &[u8], words: &[&[u8]], all_channels: bool) -> Result<Revoked, String> {
        if !user::is_name(name) {
            return Err("Usernames can't contain spaces or null characters".into());
        }
        let mut users = self.users.write();
        let mut revoked = Revoked::default();
        match users.get(name) {
            None => {
                let mut rules = Rules::new(all_channels);
                rules.apply_all(words, all_channels)?;
                users.insert(name.into(), User::new(name, rules));
            }
            Some(user) => {
                let old = user.rules();
                let mut rules = Rules::clone(&old);
                rules.apply_all(words, all_channels)?;
                if !rules.covers_channels_of(&old) {
                    revoked.narrowed.push(Arc::clone(user));
                }
                user.set_rules(rules);
            }
        }
        Ok(revoked)
    }

    /// `requirepass` has changed.
    pub fn set_default_password(&self, password: &str) {
        // The lock keeps others from changing the rules meanwhile.
        let _users = self.users.write();
        let mut rules = Rules::clone(&self.default.rules());
        rules.set_only_password(password);
        self.default.set_rules(rules);
    }

    /// ACL DELUSER, for any but `default`. Connections that still have the user may do nothing from now on.
    pub fn delete(&self, names: &[&[u8]]) -> Revoked {
        let mut users = self.users.write();
        let gone: Vec<Arc<User>> = names.iter().filter_map(|name| users.remove(*name)).collect();
        gone.iter().for_each(|user| user.set_rules(Rules::new(false)));
        Revoked { gone, narrowed: Vec::new() }
    }

    /// ACL SAVE.
    pub fn save(&self, path: &Path) -> std::io::Result<()> {
        file::save(path, &self.lines())
    }

    /// ACL LOAD: exactly these users. Those who stay keep their connections.
    pub fn replace(&self, new: BTreeMap<Name, Rules>) -> Revoked {
        let mut users = self.users.write();
        let gone: Vec<Arc<User>> =
            users.iter().filter(|(name, _)| !new.contains_key(*name)).map(|(_, user)| user.clone()).collect();
        let mut revoked = Revoked { gone, narrowed: Vec::new() };
        for user in &revoked.gone {
            users.remove(user.name());
            user.set_rules(Rules::new(false));
        }
        for (name, rules) in new {
            match users.get(&name) {
                None => drop(users.insert(name.clone(), User::new(&name, rules))),
                Some(user) => {
                    if !rules.covers_channels_of(&user.rules()) {
                        revoked.narrowed.push(Arc::clone(user));
                    }
                    user.set_rules(rules);
                }
            }
        }
        revoked
    }
}

fn line(user: &User) -> Vec<u8> {
    [b"user ", user.name(), b" ", &user.rules().describe()].concat()
}

/// The rules of all users that the configuration, or the file that it names, holds. `default` is among them.
pub(crate) fn configured_users(config: &Config) -> Result<BTreeMap<Name, Rules>, String> {
    let settings = config.settings();
    let mut users = BTreeMap::new();
    let lines: Vec<&Vec<String>> = config.others().iter().filter(|words| words[0] == "user").collect();
    if let Some(path) = &settings.aclfile {
        if !lines.is_empty() {
            return Err(
                "there are users in the configuration and in the file that aclfile names; put them all \
                        into one of the two"
                    .into(),
            );
        }
        users = file::load(path, settings.acl_pubsub_all)?;
    }
    for words in lines {
        let name = words[1].as_bytes();
        if !user::is_name(name) {
            return Err(format!("user '{}': spaces are not allowed in the names of users", words[1]));
        }
        let mut rules = Rules::new(settings.acl_pubsub_all);
        let rest: Vec<&[u8]> = words[2..].iter().map(String::as_bytes).collect();
        rules
            .apply_all(&rest, settings.acl_pubsub_all)
            .map_err(|why| format!("user '{}': {why}", words[1]))?;
        users.insert(name.into(), rules);
    }
    for (name, _) in users.iter().filter(|(_, rules)| !rules.is_on()) {
        let user = String::from_utf8_lossy(name);
        tracing::info!(%user, "this user is off: nobody can log in as it, as its rules lack the word 'on'");
    }
    // Who is not named stays as `requirepass` has it; Redis would forget the password beside an ACL file.
    let default = || Rules::of_default(&settings.requirepass);
    users.entry(DEFAULT.into()).or_insert_with(default);
    Ok(users)
}

/// What is wrong with the words behind `user` in a configuration, as far as they alone can tell.
pub(crate) fn check_line(words: &[String], all_channels: bool) -> Result<(), String> {
    let rest: Vec<&[u8]> = words[1..].iter().map(String::as_bytes).collect();
    let merged = user::merged(&rest).map_err(|open| {
        format!(
            "Error in user declaration '{}': Unmatched parenthesis in acl selector",
            String::from_utf8_lossy(open)
        )
    })?;
    let mut rules = Rules::new(all_channels);
    for word in merged {
        rules.apply(&word, all_channels).map_err(|error| {
            format!("Error in user declaration '{}': {error}", String::from_utf8_lossy(&word))
        })?;
    }
    Ok(())
}
