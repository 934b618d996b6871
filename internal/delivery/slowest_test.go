package delivery

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// TestSlowest: of many streams, the one that takes nothing comes first.
func TestSlowest(t *testing.T) {
	for _, direct := range []bool{true, false} {
		if direct && runtime.GOOS != "linux" {
			continue
		}
		t.Run(fmt.Sprint("direct ", direct), func(t *testing.T) {
			l := feed.New(4, time.Now())
			l.Sent = new(feed.Sent)
			publish := func(n int) {
				p := testPublication(n)
				p.Document.Text = fmt.Appendf(nil, `{"n":%d,"pad":"%s"}`, n, strings.Repeat("x", 512<<10))
				p.Change.Patch = nil
				l.Publish(p)
			}
			publish(0)
			exit := make(chan struct{})
			srv := NewServer(exit, nil)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				srv.Serve(w, r, Stream{Log: l, Key: testKey, Ended: func(End) {}, Options: &Options{Name: r.URL.Path[1:], Direct: direct, Retry: time.Second, MaxAge: time.Hour}})
			}))
			s.Config.ConnContext = ConnContext
			s.Start()
			defer s.Close()
			defer srv.Wait()
			defer close(exit)
			connect := func(name string) net.Conn {
				c, err := net.Dial("tcp", s.Listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: h\r\n\r\n", name)
				return c
			}
			stuck := connect("stuck")
			_ = stuck.(*net.TCPConn).SetReadBuffer(64 << 10)
			const quick = surveyBatch + 5
			for range quick {
				c := connect("quick")
				go func() { _, _ = io.Copy(io.Discard, c) }()
			}
			var got []Lag
			n := 1
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
				publish(n) // until the system takes no more for the one that does not read
				n++
				got = srv.Slowest(t.Context(), "", 3)
				all := srv.Slowest(t.Context(), "", 2*quick)
				if len(got) == 3 && got[0].Name == "stuck" && got[0].Waiting > 0 && got[0].Missed > 1 && len(all) == quick+1 && l.Sent.Waiting.Load() > 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%d streams, the first %+v", len(all), got[0])
				}
			}
			first := got[0]
			if first.Direct != direct || first.Client.String() != stuck.LocalAddr().String() || first.Log != l || first.Left == 0 || first.Bytes == 0 || first.Frames == 0 || first.Age <= 0 {
				t.Errorf("%+v", first)
			}
			if direct == (first.Unacknowledged <= 0) {
				t.Errorf("direct %v: %d bytes are not acknowledged", direct, first.Unacknowledged)
			}
			if len(srv.Slowest(t.Context(), "nobody", 3)) != 0 {
				t.Error("streams of a name that there is not")
			}
			for _, lag := range srv.Slowest(t.Context(), "quick", 3) {
				if lag.Name != "quick" {
					t.Errorf("%+v", lag)
				}
			}
			if count, _, upTo := l.Sent.Delays.Read(); count < quick || upTo[10] == 0 {
				t.Errorf("%d deliveries are counted, %v", count, upTo)
			}
			// What the stuck one takes at last counts as late, and it waits no more.
			before, _, _ := l.Sent.Delays.Read()
			go func() { _, _ = io.Copy(io.Discard, stuck) }()
			for end := time.Now().Add(20 * time.Second); l.Sent.Waiting.Load() != 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%d streams still wait", l.Sent.Waiting.Load())
				}
			}
			if after, _, _ := l.Sent.Delays.Read(); after == before {
				t.Error("the late delivery is not counted")
			}
		})
	}
}

// TestRound: late is what is late by the oldest block that a stream lacks, also if
// there are new ones all the time.
func TestRound(t *testing.T) {
	var r round
	r.publish(10, 100)
	if r.pass(64, 36); r.begun != 10 {
		t.Fatalf("%+v", r)
	}
	r.publish(20, 100)
	r.publish(30, 100)
	if r.begun != 10 {
		t.Errorf("the rest of the first round: %+v", r)
	}
	if r.pass(64, 36); r.begun != 20 {
		t.Errorf("the second round: %+v", r)
	}
	r.publish(40, 100)
	if r.pass(64, 36); r.begun != 40 {
		t.Errorf("the third round: %+v", r)
	}
	if r.pass(36, 0); r.first != 0 {
		t.Errorf("at the end: %+v", r)
	}
	if r.publish(50, 1); r.begun != 50 || r.first != 1 {
		t.Errorf("another one: %+v", r)
	}
}
