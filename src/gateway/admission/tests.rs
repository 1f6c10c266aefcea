use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::num::NonZeroU32;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pace(burst: u32, per_second: u32) -> Pace {
    Pace::new(NonZeroU32::new(burst).unwrap(), NonZeroU32::new(per_second).unwrap())
}

fn limits() -> AdmissionLimits {
    AdmissionLimits {
        connections_max: 100_000,
        per_address_max: 100_000,
        connects: pace(10_000, 5000),
        address_connects: pace(10_000, 2000),
        address_requests: pace(1000, 500),
    }
}

fn admission(limits: AdmissionLimits, start: Instant) -> Arc<Admission> {
    Admission::new(limits, CancellationToken::new(), start)
}

fn reason(admitted: Result<Permit, Refusal>) -> Option<Reason> {
    admitted.err().map(|refusal| refusal.reason)
}

#[test]
fn a_place_is_free_again_when_its_connection_ends() {
    let now = Instant::now();
    let few = AdmissionLimits { connections_max: 3, per_address_max: 2, ..limits() };
    let admission = admission(few, now);
    let admit = |address| admission.admit(ip(address), now, 7);
    let first = admit("192.0.2.1").unwrap();
    let _second = admit("::ffff:192.0.2.1").unwrap();
    let refused = admit("192.0.2.1").unwrap_err();
    assert_eq!(refused, Refusal { reason: Reason::AddressFull, retry_after_ms: 1007 });
    let third = admit("192.0.2.2").unwrap();
    assert_eq!(reason(admit("192.0.2.3")), Some(Reason::GatewayFull));
    drop(first);
    drop(third);
    let _again = admit("192.0.2.1").unwrap();
}

#[test]
fn a_network_of_ipv6_is_one_client() {
    assert_eq!(known_as(ip("2001:db8::1")), known_as(ip("2001:db8::2:3:4:5")));
    assert_ne!(known_as(ip("2001:db8::1")), known_as(ip("2001:db8:0:1::1")));
}

#[test]
fn a_gateway_that_stops_takes_nobody() {
    let now = Instant::now();
    let stopping = CancellationToken::new();
    let admission = Admission::new(limits(), stopping.clone(), now);
    let _in_time = admission.admit(ip("192.0.2.1"), now, 0).unwrap();
    stopping.cancel();
    assert_eq!(reason(admission.admit(ip("192.0.2.1"), now, 0)), Some(Reason::Stopping));
}

#[test]
fn five_thousand_of_one_address_come_back_at_once() {
    let now = Instant::now();
    let admission = admission(limits(), now);
    let admitted: Vec<_> = (0..5000).map(|_| admission.admit(ip("192.0.2.1"), now, 0)).collect();
    assert!(admitted.iter().all(Result::is_ok));
}

/// Everybody comes at once, far more than may, and heeds what it is told.
fn storm(limits: AdmissionLimits, address: impl Fn(u32) -> IpAddr) -> (u64, u32) {
    let start = Instant::now();
    let admission = admission(limits, start);
    let mut arrivals: BinaryHeap<_> = (0..2000).map(|client| Reverse((0, client))).collect();
    let (mut refused, mut permits) = (vec![0; 2000], Vec::new());
    let mut last = 0;
    while let Some(Reverse((at, client))) = arrivals.pop() {
        let jitter = u64::from(client).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match admission.admit(address(client), start + Duration::from_millis(at), jitter) {
            Ok(permit) => permits.push(permit),
            Err(refusal) => {
                refused[client as usize] += 1;
                arrivals.push(Reverse((at + refusal.retry_after_ms, client)));
            }
        }
        last = at;
    }
    assert_eq!(permits.len(), 2000);
    (last, refused.into_iter().max().unwrap())
}

#[test]
fn nobody_who_heeds_its_wait_is_refused_twice() {
    let slow = AdmissionLimits { connects: pace(100, 100), ..limits() };
    let (took_ms, most) =
        storm(slow, |client| IpAddr::from((0x0a00_0000 + client % 7).to_be_bytes()));
    assert_eq!(most, 1);
    assert!((19_000..20_000).contains(&took_ms), "{took_ms}");
    let slow = AdmissionLimits { address_connects: pace(100, 100), ..limits() };
    let (_, most) = storm(slow, |_| ip("192.0.2.1"));
    assert_eq!(most, 1);
}

#[test]
fn an_address_that_heeds_nothing_costs_others_no_more_than_its_own_pace() {
    let now = Instant::now();
    let unequal =
        AdmissionLimits { connects: pace(1000, 1000), address_connects: pace(10, 10), ..limits() };
    let admission = admission(unequal, now);
    let loud: Vec<_> = (0..100_000).map(|_| admission.admit(ip("192.0.2.1"), now, 0)).collect();
    assert_eq!(loud.iter().filter(|admitted| admitted.is_ok()).count(), 10);
    let quiet: Vec<_> = (0..600).map(|_| admission.admit(ip("192.0.2.2"), now, 0)).collect();
    assert_eq!(quiet.iter().filter(|admitted| admitted.is_ok()).count(), 10);
    let mut others = (0..600u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes()));
    // 30 s of promises to each of the two are what was taken: 310 of 1000 places twice.
    let admitted = others.by_ref().take_while(|ip| admission.admit(*ip, now, 0).is_ok()).count();
    assert_eq!(admitted, 1000 - 2 * 310);
}

#[test]
fn requests_have_a_pace_of_their_own() {
    let now = Instant::now();
    let admission = admission(AdmissionLimits { address_requests: pace(2, 1), ..limits() }, now);
    let ask = |after| admission.admit_request(ip("192.0.2.1"), now + after, 5);
    assert_eq!(ask(Duration::ZERO), Ok(()));
    assert_eq!(ask(Duration::ZERO), Ok(()));
    let refusal = ask(Duration::ZERO).unwrap_err();
    assert_eq!(refusal, Refusal { reason: Reason::RequestsThrottled, retry_after_ms: 1006 });
    assert_eq!(ask(Duration::from_millis(1006)), Ok(()));
    let _connects_all_the_same = admission.admit(ip("192.0.2.1"), now, 0).unwrap();
}

#[test]
fn addresses_that_are_as_good_as_new_are_forgotten_and_the_rest_are_bounded() {
    let start = Instant::now();
    let admission = admission(limits(), start);
    let many = |first: u8| {
        (0..70_000u32).map(move |n| {
            let [_, b, c, d] = n.to_be_bytes();
            IpAddr::from([first, b, c, d])
        })
    };
    for address in many(10) {
        // Those beyond the bound share one pace, and are refused.
        admission.admit_request(address, start, 0).ok();
    }
    assert_eq!(admission.lock().by_address.len(), ADDRESSES_MAX + 1);
    assert!(admission.lock().by_address.contains_key(&OTHERS));
    let later = start + Duration::from_secs(60);
    for address in many(11).take(10) {
        assert_eq!(admission.admit_request(address, later, 0), Ok(()));
    }
    assert_eq!(admission.lock().by_address.len(), 10);
}
