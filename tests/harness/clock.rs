//! A clock that runs ahead: pauses, time-outs and deadlines of minutes pass in seconds, while sockets stay real.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often it is moved.
const TICK: Duration = Duration::from_millis(2);

/// What goes on outside, while which the clock stands: how long a real server takes is not the clock's to say.
#[derive(Debug, Clone, Default)]
pub struct UnderWay(Arc<AtomicUsize>);

/// Something that goes on until this is dropped.
#[derive(Debug)]
pub struct Errand(UnderWay);

impl UnderWay {
    pub fn begin(&self) -> Errand {
        self.0.fetch_add(1, Ordering::Relaxed);
        Errand(self.clone())
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Errand {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a future on a runtime of its own, whose clock runs so many times faster.
///
/// Tokio's paused clock jumps to the next timer whenever nothing is ready, which would end every wait for a socket at
/// once. A blocking task keeps it from that, and moves it by fixed steps, none of which is made up for while the runtime
/// is busy: a slow machine slows the clock down. It stands while anything is under way.
pub fn ahead<F: Future>(speed: u32, under_way: &UnderWay, future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (ticks, mut ticked) = tokio::sync::mpsc::channel(1);
        let ticker = tokio::task::spawn_blocking(move || {
            while !ticks.is_closed() {
                std::thread::sleep(TICK);
                let _ = ticks.try_send(());
            }
        });
        let moving = async {
            while ticked.recv().await.is_some() {
                if under_way.is_empty() {
                    tokio::time::advance(TICK * speed).await;
                }
            }
        };
        let output = tokio::select! {
            output = future => output,
            () = moving => unreachable!("the ticker outlives the future"),
        };
        drop(ticked);
        ticker.await.unwrap();
        output
    })
}
