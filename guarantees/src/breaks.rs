//! Rules left out on purpose, one at a time.

/// The guarantee that a violation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Guarantee {
    /// A registration id has at most one live assignment, a device id at most one registration.
    U1,
    /// A key belongs to at most one identity.
    U2,
    /// At most one live session; nothing of an older one after the newer one's CONNACK.
    U3,
    /// Every stored message carries the stamp that its session proved.
    U4,
    /// Clones are recorded, and handled as the policy says; who is alone is not suspected.
    U5,
    /// Every decision is in the log before its answer; log and state are one.
    U6,
    /// What ends an identity ends its sessions, also those that are opening.
    U7,
    /// Nothing acknowledged is lost.
    U8,
}

/// A property that did not hold.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) guarantee: Guarantee,
    pub(crate) what: String,
}

/// Says that a property does not hold.
pub(crate) fn violated<T>(guarantee: Guarantee, what: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { guarantee, what: what.into() })
}

/// What is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// Nothing: the properties hold.
    Nothing,
    /// A device id that is another's is given to whoever registers with it, as compat mode does.
    DeviceIdNotChecked,
    /// Every key may be shared.
    KeyNotChecked,
    /// The key index is not written.
    KeyIndexForgotten,
    /// The writer decides on what is synced, not on what is decided: two racing requests both see an empty place.
    DecidedTooEarly,
    /// The appender does not ask the fence.
    FenceOff,
    /// CONNACK does not wait for the fence.
    ConnackBeforeFence,
    /// Neither the table of live sessions nor the fence compares epochs: an older one takes the place of a newer one. (If only one of
    /// the two did not, the other would hold.)
    EpochsNotCompared,
    /// The epoch is drawn before the session is inserted, and not under the same lock.
    EpochDrawnBefore,
    /// A restart counts from the same boot number.
    EpochsRepeat,
    /// The stamp takes the key from what the client says of itself.
    StampFromClient,
    /// A stamp is made of the first look at the identity although the second saw another life of it.
    StampOfAnotherLife,
    /// The leaf of some decisions is left out.
    LeafForgotten,
    /// Leaves are synced apart from the records that they tell of.
    LeafApart,
    /// A checkpoint covers leaves that are not synced.
    CheckpointTooEarly,
    /// The answer leaves before the sync.
    AnsweredTooEarly,
    /// A session is not looked at a second time after it is in the table.
    SecondLookLeftOut,
    /// A CONNECT does not ask for revocations: it finds only the records that have followed one.
    RevocationNotAsked,
    /// Disabling, deleting, new keys and revocations do not cut.
    CutLeftOut,
    /// A cut reaches the newest session of a client, and not those whose place it took and which it has not told yet.
    DisplacedForgotten,
    /// PUBACK leaves before the sync.
    AcknowledgedTooEarly,
    /// A CONNECT does not ask for quarantine.
    QuarantineNotAsked,
    /// It asks once only, before it is in the table.
    QuarantineLookedAtOnce,
    /// A quarantine does not cut.
    QuarantineDoesNotCut,
    /// A registration is decided without a look at the standing.
    StandingNotAsked,
    /// Under `oldest` a newcomer displaces whoever is there.
    OlderDisplaced,
    /// Under `oldest` it is asked whether the older one is alive before the table changes, and not in one step with it.
    LivenessAskedBefore,
    /// Suspicion quarantines at once after a release.
    CoolDownForgotten,
    /// That nobody is at the displaced end any more makes no difference.
    DeadEndsCount,
    /// Takeovers are not observed.
    TakeoversNotObserved,
}

impl Break {
    /// Every break, with the guarantee that it has to violate and the first seed to try: a rare race is known to show soon after it.
    /// Where a change of the world moves it, the search just takes longer; a new seed is in the output.
    pub(crate) const ALL: [(Self, Guarantee, u64); 20] = [
        (Self::DeviceIdNotChecked, Guarantee::U1, 853),
        (Self::KeyNotChecked, Guarantee::U2, 0),
        (Self::KeyIndexForgotten, Guarantee::U2, 0),
        (Self::DecidedTooEarly, Guarantee::U2, 0),
        (Self::FenceOff, Guarantee::U3, 0),
        (Self::ConnackBeforeFence, Guarantee::U3, 0),
        (Self::EpochsNotCompared, Guarantee::U3, 518),
        (Self::EpochDrawnBefore, Guarantee::U3, 745),
        (Self::EpochsRepeat, Guarantee::U3, 41),
        (Self::StampFromClient, Guarantee::U4, 0),
        (Self::StampOfAnotherLife, Guarantee::U4, 185),
        (Self::LeafForgotten, Guarantee::U6, 0),
        (Self::LeafApart, Guarantee::U6, 0),
        (Self::CheckpointTooEarly, Guarantee::U6, 62),
        (Self::AnsweredTooEarly, Guarantee::U8, 0),
        (Self::SecondLookLeftOut, Guarantee::U7, 67),
        (Self::RevocationNotAsked, Guarantee::U7, 34),
        (Self::CutLeftOut, Guarantee::U7, 0),
        (Self::DisplacedForgotten, Guarantee::U7, 0),
        (Self::AcknowledgedTooEarly, Guarantee::U8, 0),
    ];

    /// Those of U5, with the words of the property that has to find them, for the world of `clones.rs`.
    pub(crate) const OF_CLONES: [(Self, &'static str); 9] = [
        (Self::QuarantineNotAsked, "lives in quarantine"),
        (Self::QuarantineLookedAtOnce, "lives in quarantine"),
        (Self::QuarantineDoesNotCut, "lives in quarantine"),
        (Self::StandingNotAsked, "was given an assignment"),
        (Self::OlderDisplaced, "is displaced by"),
        (Self::LivenessAskedBefore, "is displaced by"),
        (Self::CoolDownForgotten, "a release lasts no longer"),
        (Self::DeadEndsCount, "a device that was alone is suspected"),
        (Self::TakeoversNotObserved, "are not suspected"),
    ];
}
