//! Cases and conditions against a naive reading of them.

use super::testing::*;
use super::verdict::{Answer, Condition, Verdict};

/// Every answer, operator and width, and several cases of one call.
#[test]
fn cases_are_answered_in_their_order() {
    let mut stream = Arguments(0x1357_9bdf_2468_ace0);
    for round in 0..200 {
        let arch = BOTH[round % 2];
        let verdicts: Vec<Verdict> = (0..20).map(|_| random_verdict(&mut stream)).collect();
        let program = super::compile::program(&verdicts, arch).unwrap();
        for (number, verdict) in (0..).zip(&verdicts) {
            for _ in 0..50 {
                let arguments = near(verdict, &mut stream);
                let found = answer(&program, arch, number, arguments);
                assert_eq!(found, read(verdict, arguments), "{arch:?} {verdict:?} {arguments:#x?}");
            }
        }
    }
}

/// Nothing is let through that was not before and that no rule matches, and what was refused stays as it was.
#[test]
fn narrowing_only_takes_away() {
    const RULES: &[&[Condition]] = &[
        &[super::verdict::without(1, 0o20_000_100)],
        &[super::verdict::without(2, 0o6000), super::verdict::not_equal(0, 2)],
    ];
    let through = [ALLOW, 0x7ffc_0000, 0x7fc0_0000];
    let mut stream = Arguments(0x0bad_cafe_1234_5678);
    for _ in 0..3000 {
        let verdict = random_verdict(&mut stream);
        let (narrow, refused) =
            (verdict.clone().narrow(RULES, Answer::Errno(1)), verdict.clone().refuse(Answer::Errno(38)));
        for _ in 0..20 {
            let arguments = near(&verdict, &mut stream);
            let before = read(&verdict, arguments);
            let permitted = RULES.iter().any(|rule| rule.iter().all(|condition| condition.holds(arguments)));
            let unchanged = permitted || !through.contains(&before);
            assert_eq!(read(&narrow, arguments), if unchanged { before } else { EPERM }, "{verdict:?}");
            let wanted = if through.contains(&before) { ENOSYS } else { before };
            assert_eq!(read(&refused, arguments), wanted, "{verdict:?}");
        }
    }
}
