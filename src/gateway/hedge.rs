//! Requests that are sent again while they are unanswered, and waits that do not fall into step.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, sleep_until};

use super::metrics;
use crate::bus::{Mail, RequestError};
use crate::runtime::entropy::Entropy;

/// When a request is sent again: after `first`, then doubling up to `longest`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    pub first: Duration,
    pub longest: Duration,
}

/// Asks, and sends the same bytes again while nobody answers. The earlier requests stay open; whatever is
/// answered first counts, so whoever is asked must do the same thing once, however often it is asked.
///
/// A worker that dies takes its requests with it in silence; the next one finds that nobody is there.
pub(super) async fn ask(
    mail: &dyn Mail,
    subject: &str,
    payload: &Bytes,
    rhythm: Rhythm,
    patience: Duration,
) -> Result<Bytes, RequestError> {
    let give_up = Instant::now() + patience;
    let again = || mail.request(subject.to_owned(), payload.clone(), give_up - Instant::now());
    let mut open = FuturesUnordered::from_iter([again()]);
    let mut pause = rhythm.first;
    let mut again_at = Instant::now() + pause;
    loop {
        tokio::select! {
            // What has come before what is late.
            biased;
            Some(answer) = open.next(), if !open.is_empty() => match answer {
                Ok(answer) => return Ok(answer),
                Err(RequestError::NoResponders) => return Err(RequestError::NoResponders),
                Err(error) if Instant::now() >= give_up => return Err(error),
                Err(RequestError::Timeout | RequestError::Unreachable) => {}
            },
            () = sleep_until(again_at.min(give_up)) => {
                if Instant::now() >= give_up {
                    return Err(RequestError::Timeout);
                }
                metrics::request_repeated();
                open.push(again());
                pause = (pause * 2).min(rhythm.longest);
                again_at += pause;
            }
        }
    }
}

/// Waits that double, each anywhere in its upper half: those who wait for the same thing do not all come back
/// at once.
#[derive(Debug)]
pub(super) struct Pauses<'a> {
    entropy: &'a Entropy,
    next: Duration,
    longest: Duration,
}

impl<'a> Pauses<'a> {
    pub(super) fn new(entropy: &'a Entropy, first: Duration, longest: Duration) -> Self {
        Self { entropy, next: first, longest }
    }

    pub(super) async fn wait(&mut self) {
        sleep(self.entropy.between(self.next / 2, self.next)).await;
        self.next = (self.next * 2).min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::bus::memory;

    const RHYTHM: Rhythm =
        Rhythm { first: Duration::from_millis(100), longest: Duration::from_millis(800) };
    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_is_asked_again_and_the_first_answer_counts() {
        let (bus, _) = memory::bus(NonZeroU16::MIN);
        let mut asked = bus.mail.serve("s".to_owned(), None).await.unwrap();
        let start = Instant::now();
        let payload = Bytes::from_static(b"same");
        let asking = ask(&*bus.mail, "s", &payload, RHYTHM, PATIENCE);
        let serving = async {
            let mut kept = Vec::new();
            for after_ms in [0, 100, 300, 700, 1500, 2300] {
                let request = asked.next().await.unwrap();
                assert_eq!(start.elapsed(), Duration::from_millis(after_ms));
                assert_eq!(request.payload, "same");
                kept.push(request.reply);
            }
            // The earliest is still open.
            kept.remove(0).send(Bytes::from_static(b"late")).await;
            kept
        };
        let (answer, _kept) = tokio::join!(asking, serving);
        assert_eq!(answer.unwrap(), "late");
    }

    #[tokio::test(start_paused = true)]
    async fn who_dies_with_a_request_is_found_out_by_the_next() {
        let (bus, _) = memory::bus(NonZeroU16::MIN);
        let mut asked = bus.mail.serve("s".to_owned(), None).await.unwrap();
        let start = Instant::now();
        let payload = Bytes::from_static(b"same");
        let asking = ask(&*bus.mail, "s", &payload, RHYTHM, PATIENCE);
        let dying = async {
            let request = asked.next().await.unwrap();
            drop(asked);
            request
        };
        let (answer, _request) = tokio::join!(asking, dying);
        assert_eq!(answer, Err(RequestError::NoResponders));
        assert_eq!(start.elapsed(), RHYTHM.first);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let (bus, faults) = memory::bus(NonZeroU16::MIN);
        faults.set_outage(true);
        let start = Instant::now();
        let answer = ask(&*bus.mail, "s", &Bytes::new(), RHYTHM, PATIENCE).await;
        assert!(matches!(answer, Err(RequestError::Unreachable | RequestError::Timeout)));
        assert_eq!(start.elapsed(), PATIENCE);
    }
}
