//! What is answered to who is denied.

use netlink_packet_netfilter::nftables::MetaKey;

use crate::network::egress::Protocol;
use crate::network::nft::{Batch, Expression, Table, Verdict, is, meta, reject, reset, verdict};

const REFUSED: &str = "refused";

/// Makes the chain that [`refuse`] goes to.
pub(in crate::network) fn add_refusal(batch: &mut Batch, table: Table<'_>) {
    batch.add_chain(table, REFUSED, None);
    // The answer is there before connect(2) has given up the socket. The kernel takes a reset then, and puts an error by ICMP
    // aside: it would be heard a second later, when the same was sent again.
    let of_tcp = vec![meta(MetaKey::L4Proto, 0), is(0, [Protocol::Tcp.number()]), reset()];
    batch.add_rule(table, REFUSED, of_tcp);
    batch.add_rule(table, REFUSED, vec![reject()]);
}

/// Answers who sends that he is denied it.
pub(in crate::network) fn refuse() -> Expression {
    verdict(Verdict::Goto(REFUSED.to_owned()))
}
