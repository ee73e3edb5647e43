use std::net::Ipv4Addr;

use super::*;

const PEER: Option<PeerKey> = Some(PeerKey::Address(Ipv4Addr::LOCALHOST));
const OTHER: Option<PeerKey> = Some(PeerKey::Address(Ipv4Addr::new(127, 0, 0, 2)));

/// A table with room for so many, for so many of one peer, and for one node.
fn table(connections: usize, connections_per_peer: usize) -> Connections {
    Connections::new(&ServerLimits {
        connections,
        connections_per_peer,
        upgraded: 1,
        ..ServerLimits::default()
    })
}

#[tokio::test]
async fn in_a_full_table_the_longest_waiting_one_goes_and_one_that_is_served_stays() {
    let connections = table(3, usize::MAX);
    let served = Arc::new(connections.enter(PEER));
    let serving = served.serving().unwrap();
    let oldest = connections.enter(PEER);
    let newest = connections.enter(PEER);
    let room = tokio::spawn({
        let connections = connections.clone();
        async move { connections.room(PEER).await }
    });
    oldest.told_to_go().await;
    assert!(!served.shared.gone.is_cancelled() && !newest.shared.gone.is_cancelled());
    drop(oldest);
    room.await.unwrap();
    drop(serving);
}

/// Begins to wait for room.
fn newcomer(connections: &Connections) -> tokio::task::JoinHandle<()> {
    let connections = connections.clone();
    tokio::spawn(async move { connections.room(PEER).await })
}

#[tokio::test]
async fn a_newcomer_takes_a_place_as_soon_as_one_falls_idle_or_stalls_for_nobody() {
    let connections = table(2, usize::MAX);
    let [first, second] = [(); 2].map(|()| Arc::new(connections.enter(PEER)));
    let served = [first.serving().unwrap(), second.serving().unwrap()];
    first.place().for_somebody();
    second.place().for_somebody();
    first.stalls(true);
    let room = newcomer(&connections);
    tokio::task::yield_now().await;
    assert!(!first.shared.gone.is_cancelled() && !second.shared.gone.is_cancelled());
    drop(served);
    second.sent_all();
    second.told_to_go().await;
    // It begins nothing any more, and nobody else goes in its place.
    assert!(second.serving().is_none() && !first.shared.gone.is_cancelled());
    drop(second);
    room.await.unwrap();

    let second = Arc::new(connections.enter(PEER));
    let served = [first.serving().unwrap(), second.serving().unwrap()];
    second.place().for_somebody();
    second.stalls(true);
    first.stalls(false);
    let room = newcomer(&connections);
    tokio::task::yield_now().await;
    assert!(!first.shared.gone.is_cancelled());
    first.stalls(true);
    first.told_to_go().await;
    assert!(!second.shared.gone.is_cancelled());
    drop((served, first));
    room.await.unwrap();
}

#[tokio::test]
async fn nodes_take_no_place_of_callers_and_have_a_bound_of_their_own() {
    let connections = table(1, usize::MAX);
    let [first, second] = [(); 2].map(|()| Arc::new(connections.enter(PEER)));
    let servings = [first.serving().unwrap(), second.serving().unwrap()];
    assert!(servings[0].upgraded() && !servings[1].upgraded());
    drop((servings, second));
    connections.room(PEER).await;
    drop(first);
    let third = Arc::new(connections.enter(PEER));
    assert!(third.serving().unwrap().upgraded());
}

#[tokio::test]
async fn a_connection_waits_again_when_its_answer_was_sent_whole() {
    let connections = table(3, usize::MAX);
    let ticket = Arc::new(connections.enter(PEER));
    assert!(ticket.is_waiting());
    let serving = ticket.serving().unwrap();
    ticket.sent_all();
    assert!(!ticket.is_waiting());
    drop(serving);
    assert!(!ticket.is_waiting());
    ticket.sent_all();
    assert!(ticket.is_waiting());
}

#[tokio::test]
async fn at_a_peers_part_one_of_its_own_goes_the_waiting_one_first_and_the_newcomer_waits_for_nobody() {
    let connections = table(10, 3);
    let others = connections.enter(OTHER);
    let [first, second, third] = [(); 3].map(|()| Arc::new(connections.enter(PEER)));
    let is_gone = |ticket: &Ticket| ticket.shared.gone.is_cancelled();
    let served = [&first, &second].map(|ticket| ticket.serving().unwrap());
    connections.room(PEER).await;
    assert!(is_gone(&third) && !is_gone(&first) && !is_gone(&second));
    // One that goes takes nothing any more, so that nobody else goes while it does.
    connections.room(PEER).await;
    assert!(!is_gone(&first) && !is_gone(&second));
    // None waits and none stalls: of those that serve nobody the oldest goes.
    let third = Arc::new(connections.enter(PEER));
    let serving = third.serving().unwrap();
    connections.room(PEER).await;
    assert!(is_gone(&first) && !is_gone(&second) && !is_gone(&third) && !is_gone(&others));
    drop((served, serving));
}

#[tokio::test]
async fn what_serves_somebody_and_nodes_take_nothing_of_a_peers_part() {
    let connections = table(10, 2);
    let served = [(); 4].map(|()| Arc::new(connections.enter(PEER)));
    let servings = [0, 1, 2, 3].map(|number: usize| {
        let serving = served[number].serving().unwrap();
        served[number].place().for_somebody();
        serving
    });
    assert!(servings[3].upgraded());
    let idle = connections.enter(PEER);
    connections.room(PEER).await;
    assert!(!idle.shared.gone.is_cancelled());
    // Once it has its answer it waits as any other does, and the oldest goes that waits.
    let [first, ..] = servings;
    drop(first);
    served[0].sent_all();
    connections.room(PEER).await;
    assert!(
        idle.shared.gone.is_cancelled() && served.iter().all(|ticket| !ticket.shared.gone.is_cancelled())
    );
}

#[test]
fn a_peers_part_is_a_quarter_and_as_much_as_a_proxy_needs_unless_it_is_set() {
    let most = |connections, connections_per_peer| {
        ServerLimits { connections, connections_per_peer, ..ServerLimits::default() }.most_a_peer()
    };
    assert_eq!([most(4096, 0), most(100, 0), most(64, 0)], [1024, 64, usize::MAX]);
    assert_eq!([most(4096, 100), most(4096, 5000)], [100, usize::MAX]);
}
