package rollout

import "time"

// How often the executor of a release looks and writes.
const (
	// CountEvery is how often a state is saved in which only counts have changed.
	CountEvery = 10 * time.Second
	// KeepAgain is how soon saving a state is retried after it failed.
	KeepAgain = 5 * time.Second
	// RankEvery is how long an order of nodes is used while nodes change.
	RankEvery = 10 * time.Second
	// NoticeWithin is how long another controller may take to observe a change before a release says that it waits for
	// that.
	NoticeWithin = 10 * time.Second
)
