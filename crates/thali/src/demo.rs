//! `thali demo`: everything in one process, with a code judge to play with.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::http::header;
use axum::routing::get;
use thali_client::StoreAddress;
use thali_jobs::exec::{self, Announce, ExecConfig};
use thali_sandbox::Policy;

use crate::app::App;
use crate::serve;

const QUEUE: &str = "judge";
/// The channel whose messages reach the room `judge:feed`.
const FEED: &str = "room:judge:feed";

pub fn run(arguments: &[String]) -> Result<()> {
    let mut start = serve::start(arguments, serve::Role::Thali)?;
    let listeners = std::mem::take(&mut start.listeners);
    let store =
        start.store_address.clone().context("the demo is a page: give it an address with http-bind")?;
    let runtime = start.runtime.handle().clone();
    let result = runtime.block_on(async {
        let app = App::start(&start.settings, listeners, &store, routes()).await?;
        let worker = exec::start(worker_config(&store)?).await?;
        serve::ready(&start, Some(&app));
        if let Some(address) = app.addresses.first() {
            println!("\n  The code judge is at http://{address}\n");
        }
        serve::end(&mut start.signals, start.store.as_ref()).await;
        worker.drain(std::time::Duration::from_secs(5)).await;
        app.shutdown().await;
        anyhow::Ok(())
    });
    serve::finish(start.store, result)
}

/// What the page asks for beside the API.
fn routes() -> Router {
    let samples: Arc<str> = thali_judge::samples_json().into();
    Router::new().route(
        "/demo/samples.json",
        get(move || {
            let samples = Arc::clone(&samples);
            async move { ([(header::CONTENT_TYPE, "application/json")], samples.to_string()) }
        }),
    )
}

/// One judge a core: this same program, which boxes what it runs.
fn worker_config(store: &StoreAddress) -> Result<ExecConfig> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(ExecConfig {
        concurrency: std::thread::available_parallelism().map_or(1, usize::from),
        trusted: true,
        announce: Some(Announce {
            channel: FEED.to_owned(),
            message: |job, result| Some(thali_judge::feed_entry(job.id(), result)),
        }),
        ..ExecConfig::new(store.clone(), QUEUE, [program.into_os_string(), "judge".into()])
    })
}

/// `thali judge`: one submission, one verdict.
pub fn judge() -> Result<()> {
    thali_judge::run_stdio(&Policy::default())?;
    Ok(())
}
