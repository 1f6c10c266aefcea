//! Frames that we write.

use serde::Serialize;
use tablecast::domain::{
    Closing, LifecycleView, ResultView, Seat, TableEventView, TableSeq, Timestamp,
};
use tablecast::protocol::close::CloseCode;
use tablecast::protocol::frame::{
    BusStatus, CommitFrame, LobbyEntry, LobbySeat, LobbyStatus, ServerFrame, SnapshotFrame,
};
use tablecast::protocol::request::Refusal;

use crate::client::{AT, command_id, kind, table};
use crate::golden::Golden;

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum GameEvent {
    Said { seat: Seat, number: u32 },
}

#[derive(Serialize)]
struct GameView {
    yours: Option<u32>,
}

fn connection_frames() -> Vec<Golden> {
    let welcome_until = |player: Option<&str>, expires_at| ServerFrame::Welcome {
        player: player.map(|player| player.parse().expect("an id")),
        name: player.map(|_| "Nok".to_owned()),
        expires_at,
        now: AT,
        ping_interval_ms: 20_000,
        frame_bytes_max: 65_536,
        subscriptions_max: 64,
    };
    let welcome = |player| welcome_until(player, None);
    let error = |code, retry_after_ms| ServerFrame::Error {
        code,
        message: "in a sentence".to_owned(),
        retry_after_ms,
    };
    let status = |bus| ServerFrame::Status { bus, since: AT };
    vec![
        Golden::of("welcome_spectator", &welcome(None)),
        Golden::of("welcome_player", &welcome(Some("guest-1"))),
        Golden::of("welcome_expiring", &welcome_until(Some("guest-1"), Some(AT))),
        Golden::of("pong", &ServerFrame::Pong { data: 7, now: AT }),
        Golden::of("status_unavailable", &status(BusStatus::Unavailable)),
        Golden::of("status_ok", &status(BusStatus::Ok)),
        Golden::of("goodbye", &ServerFrame::Goodbye { reconnect_after_ms: 1234 }),
        Golden::of("error_malformed", &error("malformed", None)),
        Golden::of("error_throttled", &error("throttled", Some(50))),
        Golden::of(
            "lobby",
            &ServerFrame::Lobby {
                tables: vec![LobbyEntry {
                    table: table(),
                    kind: kind(),
                    status: LobbyStatus::Waiting,
                    seats: vec![
                        LobbySeat { name: "Nok".to_owned(), bot: false },
                        LobbySeat { name: String::new(), bot: false },
                    ],
                }],
            },
        ),
    ]
}

fn command_frames() -> Vec<Golden> {
    let (id, table, seq) = (command_id(), table(), TableSeq::new(4));
    let rejected = |table, refusal| ServerFrame::Rejected { id: command_id(), table, refusal };
    let rule = Refusal::new("not_your_turn", "it is another seat's turn");
    let busy = Refusal::new("busy", "too many").retry_after_ms(250);
    let opened = ServerFrame::Opened { id: id.clone(), table, seq: TableSeq::new(1) };
    vec![
        Golden::of("opened", &opened),
        Golden::of("accepted", &ServerFrame::Accepted { id, table, seq }),
        Golden::of("rejected", &rejected(Some(table), rule)),
        Golden::of("rejected_for_now", &rejected(None, busy)),
    ]
}

fn table_frames() -> Vec<Golden> {
    let (table, seq) = (table(), TableSeq::new(4));
    let subscribed =
        |seat, recovered| ServerFrame::Subscribed { table, kind: kind(), seat, recovered, seq };
    let reason = "unknown_table";
    let (seat, number) = (Seat(1), 7);
    let result = ResultView {
        closing: Closing::Finished,
        winners: vec![seat],
        scores: vec![-3, 50],
        ended_at: AT,
    };
    let events = vec![
        TableEventView::Game(GameEvent::Said { seat, number }),
        TableEventView::Lifecycle(LifecycleView::Completed(result)),
    ];
    let rematch = vec![
        TableEventView::Lifecycle(LifecycleView::RematchOffered { until: AT }),
        TableEventView::Lifecycle(LifecycleView::RematchWanted { seat }),
        TableEventView::Lifecycle(LifecycleView::Succeeded { table }),
    ];
    let commit = |events| CommitFrame { table, seq, at: AT, events };
    let view = GameView { yours: None };
    vec![
        Golden::of("subscribed_spectator", &subscribed(None, false)),
        Golden::of("subscribed_seat", &subscribed(Some(Seat(1)), true)),
        Golden::of("unsubscribed", &ServerFrame::Unsubscribed { table, reason }),
        Golden::of("commit", &commit(events)),
        Golden::of("commit_rematch", &commit(rematch)),
        Golden::of("commit_hidden", &commit(Vec::<TableEventView<GameEvent>>::new())),
        Golden::of("snapshot", &SnapshotFrame { table, seq, view }),
    ]
}

pub(crate) fn all() -> Vec<Golden> {
    let mut all = connection_frames();
    all.extend(command_frames());
    all.extend(table_frames());
    all
}

#[test]
fn our_frames_have_not_changed() {
    for golden in all() {
        golden.check();
    }
}

#[test]
fn close_codes_have_not_changed() {
    use CloseCode as C;
    let all = [
        (C::Restart, 4000, "restart"),
        (C::SlowConsumer, 4001, "slow_consumer"),
        (C::PingTimeout, 4002, "ping_timeout"),
        (C::TokenExpired, 4003, "token_expired"),
        (C::Internal, 4004, "internal"),
        (C::BadFrames, 4500, "bad_frames"),
        (C::FrameTooBig, 4501, "frame_too_big"),
        (C::WrongFormat, 4502, "wrong_format"),
        (C::BadToken, 4503, "bad_token"),
        (C::Flood, 4504, "flood"),
    ];
    for (close, code, reason) in all {
        assert_eq!((close.code(), close.reason()), (code, reason));
    }
}

#[test]
fn timestamps_are_milliseconds() {
    assert_eq!(AT, Timestamp::from_millis(1_795_000_000_000));
}
