package delivery

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

func TestCacheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := feed.View{Validated: time.Now(), Status: feed.Status{State: feed.Live}}
		time.Sleep(3500 * time.Millisecond)
		if got, want := cacheStatus(v, false, 10*time.Second), "poll_sse; hit; ttl=6"; got != want {
			t.Errorf("live: %s, want %s", got, want)
		}
		time.Sleep(time.Minute)
		v.Status = feed.Status{State: feed.Stale, Reason: "timeout"}
		if got, want := cacheStatus(v, false, 10*time.Second), "poll_sse; hit; ttl=-53; detail=timeout"; got != want {
			t.Errorf("stale: %s, want %s", got, want)
		}
		if got, want := cacheStatus(v, true, 10*time.Second), "poll_sse; fwd=miss; stored"; got != want {
			t.Errorf("cold: %s, want %s", got, want)
		}
	})
}
