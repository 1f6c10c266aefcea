//! Games that everybody knows, as they were written down.

use tablecast::games::chess::Reason;

use super::*;

/// Morphy against the Duke of Brunswick and Count Isouard, Paris 1858.
const OPERA: &str = "e4 e5 Nf3 d6 d4 Bg4 dxe5 Bxf3 Qxf3 dxe5 Bc4 Nf6 Qb3 Qe7 Nc3 c6 Bg5 b5 Nxb5 cxb5 \
    Bxb5+ Nbd7 O-O-O Rd8 Rxd7 Rxd7 Rd1 Qe6 Bxd7+ Nxd7 Qb8+ Nxb8 Rd8#";

/// D. Byrne against Fischer, New York 1956.
const OF_THE_CENTURY: &str = "Nf3 Nf6 c4 g6 Nc3 Bg7 d4 O-O Bf4 d5 Qb3 dxc4 Qxc4 c6 e4 Nbd7 Rd1 Nb6 \
    Qc5 Bg4 Bg5 Na4 Qa3 Nxc3 bxc3 Nxe4 Bxe7 Qb6 Bc4 Nxc3 Bc5 Rfe8+ Kf1 Be6 Bxb6 Bxc4+ Kg1 Ne2+ \
    Kf1 Nxd4+ Kg1 Ne2+ Kf1 Nc3+ Kg1 axb6 Qb4 Ra4 Qxb6 Nxd1 h3 Rxa2 Kh2 Nxf2 Re1 Rxe1 Qd8+ Bf8 \
    Nxe1 Bd5 Nf3 Ne4 Qb8 b5 h4 h5 Ne5 Kg7 Kg1 Bc5+ Kf1 Ng3+ Ke1 Bb4+ Kd1 Bb3+ Kc1 Ne2+ Kb1 Nc3+ \
    Kc1 Rc2#";

#[test]
fn a_known_game_ends_as_it_did() {
    for (written, winner, fen) in [
        (OPERA, Seat(0), "1n1Rkb1r/p4ppp/4q3/4p1B1/4P3/8/PPP2PPP/2K5 b k - 1 17"),
        (OF_THE_CENTURY, Seat(1), "1Q6/5pk1/2p3p1/1p2N2p/1b5P/1bn5/2r3P1/2K5 w - - 16 42"),
    ] {
        let mut game = begun(Setup::default());
        for san in written.split_whitespace() {
            assert_eq!(game.outcome(), None);
            game = after(&game, Command::san(san));
        }
        let view = public(&game);
        let result = view.result.expect("an end");
        assert_eq!((result.reason, result.winners), (Reason::Checkmate, vec![winner]));
        assert_eq!(view.fen, fen);
        // What we write is what they wrote, signs of check included.
        assert_eq!(view.moves, written.split_whitespace().collect::<Vec<_>>());
    }
}
