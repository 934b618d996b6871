package upstream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestBearerFileThatHangs: each poll waits as long as it may, and however many
// do, one goroutine is left behind.
func TestBearerFileThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var files fileReads
		var reads atomic.Int64
		mounted := make(chan struct{})
		read := func(path string) (string, error) {
			reads.Add(1)
			<-mounted
			return "token of " + path, nil
		}
		get := func() (string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return files.get(ctx, "/mnt/token", read)
		}
		begun := time.Now()
		for range 5 {
			var polls sync.WaitGroup
			for range 20 {
				polls.Go(func() {
					if token, err := get(); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("%q, %v; want the end of the poll", token, err)
					}
				})
			}
			polls.Wait()
		}
		if took := time.Since(begun); took != 5*time.Second || reads.Load() != 1 {
			t.Errorf("5 rounds of polls of 1s: %s, %d reads; want 5s and one", took, reads.Load())
		}
		close(mounted)
		synctest.Wait()
		if token, err := get(); token != "token of /mnt/token" || err != nil || reads.Load() != 2 {
			t.Errorf("afterwards: %q, %v, %d reads; want a new read", token, err, reads.Load())
		}
	})
}

// TestTokenGoesWithItsLastClient: clients with equal credentials share a token,
// and the last one that is closed forgets it.
func TestTokenGoesWithItsLastClient(t *testing.T) {
	tokens := new(Tokens)
	var clients []*Client
	for _, secret := range []string{"a", "a", "b"} {
		template, err := Compile(Config{URL: "http://api.test/", OAuth2: &OAuth2{TokenURL: "http://auth.test/", ClientID: "poller", ClientSecret: secret}}, lookupIn(nil))
		if err != nil {
			t.Fatal(err)
		}
		request, err := template.Expand(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, NewClient(request, Reading{}, tokens, new(Reuse), new(atomic.Int64)))
	}
	if clients[0].token != clients[1].token || clients[0].token == clients[2].token {
		t.Error("clients share a token if and only if their credentials are equal")
	}
	for i, want := range []int{2, 1, 0} {
		clients[i].Close()
		if got := len(tokens.byClient); got != want {
			t.Errorf("%d tokens after client %d was closed, want %d", got, i, want)
		}
	}
}
