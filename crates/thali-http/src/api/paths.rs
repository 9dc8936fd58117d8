//! What a path may name.

use serde::Deserialize;
use serde::de::{Deserializer, Error};
use thali_jobs::queue::{JOB_ID_LEN_MAX, check_queue_name, check_text};

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct QueuePath {
    /// The queue's name: anything but colons and control characters.
    #[serde(deserialize_with = "queue")]
    #[param(min_length = 1, max_length = 256, pattern = "^[^:\\x00-\\x1f\\x7f-\\x9f]+$")]
    pub queue: String,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct JobPath {
    /// The queue's name: anything but colons and control characters.
    #[serde(deserialize_with = "queue")]
    #[param(min_length = 1, max_length = 256, pattern = "^[^:\\x00-\\x1f\\x7f-\\x9f]+$")]
    pub queue: String,
    /// The job's id.
    #[serde(deserialize_with = "job_id")]
    #[param(min_length = 1, max_length = 1024)]
    pub id: String,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct RoomPath {
    /// The room's name.
    #[serde(deserialize_with = "room")]
    #[param(min_length = 1, max_length = 256, pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]+$")]
    pub room: String,
}

/// Longest name of a room or an event, in characters.
pub(crate) const ROOM_NAME_LEN_MAX: usize = 256;

fn queue<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let queue = String::deserialize(deserializer)?;
    check_queue_name(&queue).map_err(D::Error::custom)?;
    Ok(queue)
}

fn job_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    // Ids of repeated jobs are longer than those that a producer may choose.
    if id.is_empty() || id.chars().count() > 2 * JOB_ID_LEN_MAX {
        return Err(D::Error::custom("a job's id has between 1 and 1024 characters"));
    }
    Ok(id)
}

fn room<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let room = String::deserialize(deserializer)?;
    check_text("room", &room, ROOM_NAME_LEN_MAX).map_err(D::Error::custom)?;
    Ok(room)
}
