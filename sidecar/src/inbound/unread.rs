//! Calls of peers before anybody knows whether they are allowed.
//!
//! A unary call is decided when it is whole, a stream when its first message is: so much is kept until then, whoever
//! sent it. Owns the bounds of that: the time that a peer has for a unary call, and the bytes that all calls of one data
//! thread may hold together. A call that finds no room is refused at once, because calls that wait for each other's room would never end.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::{
    body::Body,
    invocation::grpc::{self, Gathered},
};

#[cfg(test)]
mod tests;

/// Time that a peer has for a call of no size.
const LIMIT: Duration = Duration::from_secs(30);
/// Each second more is earned by so many bytes: large messages over slow links are no attack.
const RATE: u32 = 32 * 1024;
/// Least room of a data thread, in bytes.
const LEAST_ROOM: usize = 256 * 1024 * 1024;
/// So many of the largest messages fit in any case.
const LARGEST: usize = 8;
/// What a frame takes besides its bytes: a peer may send single ones.
const FRAME: usize = 64;

/// The room of one data thread.
#[derive(Debug)]
pub(crate) struct Unread {
    room: Arc<Semaphore>,
    total: usize,
}

/// The room that one call takes, given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Room {
    permit: Option<OwnedSemaphorePermit>,
}

// === impl Unread ===

impl Unread {
    /// Room for messages of up to `max_message` bytes.
    pub(crate) fn new(max_message: usize) -> Self {
        Self::of(LEAST_ROOM.max(max_message.saturating_mul(LARGEST)))
    }

    fn of(total: usize) -> Self {
        let total = total.min(Semaphore::MAX_PERMITS);
        Self {
            room: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    /// Reads the message of a unary call.
    ///
    /// # Errors
    /// Those of [`grpc::read_unary`]; DeadlineExceeded for a peer that is slow, ResourceExhausted without room.
    pub(crate) async fn read(&self, mut body: Body, limit: usize) -> Result<(Bytes, Room), Status> {
        let mut gathered = Gathered::default();
        let mut room = Room::default();
        let mut pause = pin!(tokio::time::sleep(LIMIT));
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = &mut pause => return Err(slow()),
            };
            let Some(frame) = frame else {
                return Ok((gathered.message()?, room));
            };
            let frame = frame.map_err(|error| grpc::from_body_error(&error))?;
            let size = frame.data_ref().map_or(0, Bytes::len);
            self.enlarge(&mut room, &frame)?;
            gathered.push(frame, limit)?;
            let earned = Duration::from_secs(1).saturating_mul(saturated(size)) / RATE;
            let until = pause.deadline() + earned;
            pause.as_mut().reset(until);
        }
    }

    /// Takes room for a frame.
    ///
    /// # Errors
    /// ResourceExhausted if there is none.
    pub(crate) fn enlarge(&self, room: &mut Room, frame: &Frame<Bytes>) -> Result<(), Status> {
        let size = frame.data_ref().map_or(0, Bytes::len);
        let wanted = saturated(size.saturating_add(FRAME));
        let Ok(more) = Arc::clone(&self.room).try_acquire_many_owned(wanted) else {
            return Err(Status::resource_exhausted(format!(
                "calls that are not decided yet hold {} bytes together: try again",
                self.total
            )));
        };
        match &mut room.permit {
            Some(permit) => permit.merge(more),
            None => room.permit = Some(more),
        }
        Ok(())
    }
}

fn saturated(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn slow() -> Status {
    Status::deadline_exceeded(format!(
        "the message of a unary call did not arrive within {} s and a second more for each {} KiB",
        LIMIT.as_secs(),
        RATE / 1024
    ))
}
