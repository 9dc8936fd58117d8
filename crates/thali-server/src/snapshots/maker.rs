//! Makes one snapshot: the point in time, the file, and how it ended for the log and INFO.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use thali_journal::{BaseForm, BaseWriter, Journal, JournalError, RealDisk, Rewrite};
use thali_keyspace::By;

use super::file::AsideFile;
use super::output::{self, Form, Outcome};
use super::walk::{Saves, Walk};
use super::{Doing, unix_s};
use crate::append_only;
use crate::call::Shared;
use crate::config::Settings;
use crate::functions::LibrarySet;
use crate::latency::event;

/// Writes a dump, on the calling thread, where no loop runs; the outcome is in the log and in INFO.
pub(crate) fn dump_alone(shared: &Shared) -> Result<(), String> {
    Maker { shared, in_haste: true, gives_up: &|| false }.dump()
}

/// Gives a journal that is about to begin its first base, on the calling thread, where no loop runs; the outcome is
/// in the log and in INFO.
pub(crate) fn begin_journal(shared: &Shared, journal: &Arc<Journal>, first: Rewrite) -> Result<(), String> {
    let maker = Maker { shared, in_haste: true, gives_up: &|| false };
    maker.note_rewrite(|| maker.write_first_base(journal, first))
}

/// Gives the append-only file a new base, on the calling thread, where no loop runs; the outcome is in the log
/// and in INFO.
pub(crate) fn rewrite_alone(shared: &Shared) -> Result<(), String> {
    Maker { shared, in_haste: true, gives_up: &|| false }.rewrite()
}

/// Makes one snapshot.
pub(super) struct Maker<'a> {
    pub shared: &'a Shared,
    /// Somebody waits for it.
    pub in_haste: bool,
    pub gives_up: &'a dyn Fn() -> bool,
}

impl Maker<'_> {
    pub fn dump(&self) -> Result<(), String> {
        let begun = Instant::now();
        let mut dirty = 0;
        let outcome = self.try_dump(&mut dirty);
        let is_broken_off = outcome.is_err() && self.is_broken_off();
        match &outcome {
            Ok(outcome) => {
                tracing::info!(?outcome, seconds = begun.elapsed().as_secs_f64(), "DB saved on disk");
            }
            Err(_) if is_broken_off => tracing::info!("the dump was broken off; the one before is untouched"),
            Err(error) => tracing::error!(error, "the dump failed; the one before is untouched"),
        }
        let snapshots = &self.shared.snapshots;
        if !is_broken_off {
            snapshots.has_failed.store(outcome.is_err(), Ordering::Relaxed);
        }
        snapshots.end(|state| {
            state.dumps += 1;
            if is_broken_off {
                return;
            }
            state.last_dump_failed = outcome.is_err();
            state.last_dump_took = Some(begun.elapsed());
            state.last_dump_tried = Some(begun);
            if let Ok(outcome) = &outcome {
                state.dumps_done += 1;
                state.dirty_at_last_dump = dirty;
                state.last_dump_unix_s = unix_s();
                state.longest_hold = outcome.longest_hold;
                self.shared.note_latency_elsewhere(event::SNAPSHOT_HOLD, outcome.longest_hold);
            }
        });
        outcome.map(|_| ())
    }

    fn try_dump(&self, dirty: &mut u64) -> Result<Outcome, String> {
        let settings = self.shared.settings.load_full();
        let named = |what: &str, error: std::io::Error| {
            format!("cannot {what} {}: {error}", settings.dump_path().display())
        };
        let mut file = AsideFile::create(&RealDisk, &settings.dir, settings.rdb_save_incremental_fsync)
            .map_err(|error| named("create the file for", error))?;
        let saves = rdb(&settings);
        let (walk, functions) = self.begin(saves, || *dirty = self.shared.dirty());
        let form = Form::Dump { checksum: settings.rdbchecksum };
        let outcome = output::write(&self.shared.keyspace, &walk, &functions, form, &mut file, self.gives_up);
        let outcome = outcome.map_err(|error| named("write", error))?;
        file.finish(&settings.dbfilename).map_err(|error| named("finish", error))?;
        Ok(outcome)
    }

    pub fn rewrite(&self) -> Result<(), String> {
        self.note_rewrite(|| self.try_rewrite())
    }

    /// Notes how a rewrite ended.
    fn note_rewrite(&self, rewrite: impl FnOnce() -> Result<Duration, String>) -> Result<(), String> {
        let begun = Instant::now();
        let outcome = rewrite();
        let is_broken_off = outcome.is_err() && self.is_broken_off();
        match &outcome {
            Ok(_) => {}
            Err(_) if is_broken_off => tracing::info!("the rewrite of the append-only file was broken off"),
            Err(error) => tracing::error!(
                error,
                "the rewrite of the append-only file failed; the files before stay in use"
            ),
        }
        self.shared.snapshots.end(|state| {
            state.rewrites += 1;
            if is_broken_off {
                return;
            }
            state.last_rewrite_failed = outcome.is_err();
            state.last_rewrite_took = Some(begun.elapsed());
            state.last_rewrite_tried = Some(begun);
            if let Ok(longest_hold) = outcome {
                state.longest_hold = longest_hold;
                self.shared.note_latency_elsewhere(event::SNAPSHOT_HOLD, longest_hold);
            }
        });
        outcome.map(|_| ())
    }

    fn try_rewrite(&self) -> Result<Duration, String> {
        match self.shared.journal.load_full() {
            Some(journal) => {
                let rewrite = journal.begin_rewrite().map_err(text)?;
                let cut = |rewrite: &mut Rewrite| {
                    rewrite.cut();
                };
                self.write_base(&journal, rewrite, cut)
            }
            None if self.shared.settings.load().appendonly => {
                let (journal, rewrite) = append_only::create(self.shared).map_err(text)?;
                self.write_first_base(&journal, rewrite)
            }
            None => self.write_lone_base(),
        }
    }

    /// The base of a journal that begins with it.
    fn write_first_base(&self, journal: &Arc<Journal>, rewrite: Rewrite) -> Result<Duration, String> {
        let put_in = |_: &mut Rewrite| self.shared.journal.put_in(Arc::clone(journal));
        let outcome = self.write_base(journal, rewrite, put_in);
        if outcome.is_err() && self.is_in_use(journal) {
            // Nothing of it counts. The next try begins anew.
            drop(append_only::take_out(self.shared));
            let _ = journal.close();
        }
        outcome
    }

    fn write_base(
        &self,
        journal: &Arc<Journal>,
        mut rewrite: Rewrite,
        at_the_cut: impl FnOnce(&mut Rewrite),
    ) -> Result<Duration, String> {
        let form = self.base_form();
        let mut base = rewrite.base_writer(form).map_err(text)?;
        let outcome = self.fill(&mut base, form, || at_the_cut(&mut rewrite))?;
        if !self.is_in_use(journal) {
            return Err("appendonly was set to no meanwhile".into());
        }
        let report = rewrite.finish(base).map_err(text)?;
        tracing::info!(?report, ?outcome, "the append-only file has a new base");
        Ok(outcome.longest_hold)
    }

    /// The base of a folder that nobody appends to.
    fn write_lone_base(&self) -> Result<Duration, String> {
        let mut files = append_only::lone_base(self.shared).map_err(text)?;
        let form = self.base_form();
        let mut base = files.base_writer(form).map_err(text)?;
        let outcome = self.fill(&mut base, form, || {})?;
        let report = files.finish(base).map_err(text)?;
        tracing::info!(?report, ?outcome, "the append-only file, which is off, is one new base");
        Ok(outcome.longest_hold)
    }

    fn base_form(&self) -> BaseForm {
        if self.shared.settings.load().aof_use_rdb_preamble { BaseForm::Rdb } else { BaseForm::Aof }
    }

    fn fill(
        &self,
        base: &mut BaseWriter,
        form: BaseForm,
        at_the_cut: impl FnOnce(),
    ) -> Result<Outcome, String> {
        let saves = match form {
            BaseForm::Rdb => rdb(&self.shared.settings.load()),
            BaseForm::Aof => Saves::Requests,
        };
        let (walk, functions) = self.begin(saves, at_the_cut);
        let form = Form::Base(form);
        let outcome = output::write(&self.shared.keyspace, &walk, &functions, form, base, self.gives_up);
        outcome.map_err(|error| format!("cannot write the base: {error}"))
    }

    /// Whether the snapshot that this is about to end was broken off.
    fn is_broken_off(&self) -> bool {
        self.shared.snapshots.walk.load().as_ref().is_some_and(|walk| walk.is_broken_off())
    }

    /// Whether it was not taken out since.
    fn is_in_use(&self, journal: &Arc<Journal>) -> bool {
        self.shared.journal.load().as_ref().is_some_and(|used| Arc::ptr_eq(used, journal))
    }

    /// Fixes the point in time and tells the loops. Gives the libraries of that moment, too.
    fn begin(&self, saves: Saves, at_the_cut: impl FnOnce()) -> (Arc<Walk>, Arc<LibrarySet>) {
        let mut functions = Default::default();
        let keyspace = &self.shared.keyspace;
        let pause = self.shared.settings.load().rdb_key_save_delay;
        let walk = Walk::begin(keyspace, pause, self.in_haste, saves, || {
            at_the_cut();
            functions = self.shared.functions.current();
        });
        self.shared.snapshots.walk.store(Some(Arc::clone(&walk)));
        // Changed since, it was told to nobody.
        walk.set_pause(self.shared.settings.load().rdb_key_save_delay);
        self.shared.snapshots.is_walking.store(true, Ordering::Release);
        self.shared.mailboxes.iter().for_each(crate::mailbox::Mailbox::wake);
        if let Doing::Making { is_fixed, .. } = &mut self.shared.snapshots.state.lock().doing {
            *is_fixed = true;
        }
        self.shared.snapshots.changed.notify_all();
        (walk, functions)
    }
}

fn rdb(settings: &Settings) -> Saves {
    // Where no policy goes by them, uses are not worth the bytes.
    let preference = settings.maxmemory_policy.preference();
    let goes_by_uses = preference.is_some_and(|preference| preference.by == By::Uses);
    let uses = goes_by_uses.then(|| settings.uses(unix_s() * 1000));
    Saves::Rdb { compressed: settings.rdbcompression, uses }
}

fn text(error: JournalError) -> String {
    error.to_string()
}
