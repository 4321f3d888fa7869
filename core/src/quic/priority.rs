//! In which order QUIC sends what streams hold; higher goes first.

use crate::id::Lane;

pub(super) const CONTROL: i32 = 100;
const ANSWERS: i32 = 50;
const LANE: i32 = 10;
const BEST_EFFORT: i32 = 5;
const BULK_ANSWERS: i32 = 1;
const BULK: i32 = 0;

pub(super) fn of_lane(lane: Lane) -> i32 {
    match lane {
        Lane::ANSWERS => ANSWERS,
        Lane::BULK_ANSWERS => BULK_ANSWERS,
        Lane::BEST_EFFORT => BEST_EFFORT,
        Lane::BULK => BULK,
        _ => LANE,
    }
}
