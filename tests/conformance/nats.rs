//! The promises on a real server.

use std::time::Duration;

use futures_util::StreamExt;
use tablecast::bus::Bus;
use tokio::time::{sleep, timeout};

use crate::alarm_suite::{alarm_promises, arm_in, listen, next};
use crate::log_suite::promises;
use crate::nats_server::NatsServer;
use crate::tables::{address, new_table};

async fn buses() -> (NatsServer, Bus, Bus) {
    let server = NatsServer::start().await;
    let first = server.bus(&[]).await;
    let second = server.bus(&[]).await;
    (server, first, second)
}

promises! {
    #[tokio::test]
    buses
}

alarm_promises! {
    #[tokio::test]
    buses
}

#[tokio::test]
async fn alarms_survive_a_crash_of_the_server_and_listening_ends() {
    let (mut server, bus, _) = buses().await;
    let [rung, due_meanwhile, due_later] = [(); 3].map(|()| address(&bus, new_table()));
    let mut wakes = listen(&bus).await;
    arm_in(&bus, &rung, 1).await;
    let unsettled = next(&mut wakes).await;
    arm_in(&bus, &due_meanwhile, 300).await;
    arm_in(&bus, &due_later, 6_000).await;
    server.kill();
    sleep(Duration::from_millis(1_000)).await;
    server.restart().await;

    let ended = timeout(Duration::from_secs(20), async { while wakes.next().await.is_some() {} });
    let again = async {
        let mut heard = Vec::new();
        let mut wakes = listen(&server.bus(&[]).await).await;
        while heard.len() < 3 {
            let wake = next(&mut wakes).await;
            heard.push(wake.address.table);
            wake.settle.done().await;
        }
        heard
    };
    drop(unsettled);
    let mut heard = again.await;
    let mut expected = [rung.table, due_meanwhile.table, due_later.table];
    heard.sort_unstable();
    expected.sort_unstable();
    assert_eq!(heard, expected);
    drop(ended);
}
