package rollout

import "time"

// How often whoever carries out a release looks and writes.
const (
	// CountEvery is how often a state is kept that only counts on.
	CountEvery = 10 * time.Second
	// KeepAgain is how soon a state is tried to be kept again that could not be.
	KeepAgain = 5 * time.Second
	// RankEvery is how long an order of nodes is good for while nodes change.
	RankEvery = 10 * time.Second
	// NoticeWithin is how long another controller may take to see a change before a release says that it waits for that.
	NoticeWithin = 10 * time.Second
)
