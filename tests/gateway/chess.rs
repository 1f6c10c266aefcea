//! A game of chess over the wire: what players send, and what everybody is shown.

use serde_json::{Value, json};

use crate::socket::Socket;
use crate::stage::Stage;
use crate::tiny_worker::TinyWorker;

async fn command(socket: &mut Socket, id: &str, table: &str, command: Value) {
    let frame = json!({ "type": "command", "id": id, "table": table, "command": command });
    socket.send(frame).await;
}

#[tokio::test]
async fn two_players_play_chess_and_a_spectator_sees_every_move() {
    let stage = Stage::new(&[]).await;
    let _worker = TinyWorker::start("w-chess", "chess", &stage.bus, &stage.catalog).await;
    let mut nok = stage.player("Nok").await;
    let mut somchai = stage.player("Somchai").await;

    let bad = json!({ "type": "open", "id": "bad", "kind": "chess", "setup": { "initial_ms": 5 } });
    nok.send(bad).await;
    let rejected = nok.until("rejected").await;
    assert_eq!(rejected["code"], "bad_opening");
    assert!(rejected["message"].as_str().is_some_and(|text| text.contains("initial_ms")));

    let setup = json!({ "initial_ms": 60_000, "increment_ms": 1_000 });
    nok.send(json!({ "type": "open", "id": "open", "kind": "chess", "setup": setup, "seats": ["me", "open"] }))
        .await;
    let table = nok.until("opened").await["table"].as_str().expect("an id").to_owned();
    command(&mut somchai, "sit", &table, json!({ "type": "table.sit" })).await;
    somchai.until("accepted").await;
    command(&mut nok, "start", &table, json!({ "type": "table.start" })).await;
    nok.until("accepted").await;

    let mut spectator = stage.spectator().await;
    let views = json!({ "type": "subscribe", "table": table, "deliver": "views" });
    spectator.send(views.clone()).await;
    spectator.until("snapshot").await;
    nok.send(views.clone()).await;
    let own = nok.until("snapshot").await;
    assert_eq!(own["view"]["game"]["choices"].as_array().map(Vec::len), Some(22));
    somchai.send(views).await;
    assert_eq!(somchai.until("snapshot").await["view"]["game"]["choices"], json!([]));

    command(&mut somchai, "early", &table, json!({ "type": "move", "san": "e5" })).await;
    assert_eq!(somchai.until("rejected").await["code"], "not_your_turn");
    command(&mut nok, "bad", &table, json!({ "type": "move", "uci": "e2e5" })).await;
    assert_eq!(nok.until("rejected").await["code"], "illegal_move");

    let mate = ["f2f3", "e7e5", "g2g4", "d8h4"];
    for (number, uci) in mate.iter().enumerate() {
        let player = if number % 2 == 0 { &mut nok } else { &mut somchai };
        command(player, &format!("m{number}"), &table, json!({ "type": "move", "uci": uci })).await;
        assert_eq!(player.until("accepted").await["id"], format!("m{number}"));
        let commit = spectator.until("commit").await;
        let played = &commit["events"][0];
        assert_eq!((&played["type"], &played["uci"]), (&json!("move_played"), &json!(uci)));
        let view = &spectator.until("snapshot").await["view"]["game"];
        assert_eq!(view["last_move"], json!(uci));
        let left = &view["clocks"]["left_ms"][number % 2];
        assert_eq!(left, &played["left_ms"]);
        assert!((50_000..=62_000).contains(&left.as_u64().expect("a number")), "{left}");
        if number == 3 {
            assert_eq!(played["san"], "Qh4#");
            assert_eq!(commit["events"][1]["reason"], "checkmate");
            assert_eq!(commit["events"][2]["winners"], json!([1]));
            assert_eq!(view["clocks"]["deadline"], Value::Null);
        }
    }
}
