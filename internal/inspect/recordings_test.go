package inspect

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/recording"
)

// recorded returns the versions of a recorded API as the answers of polls that are
// a minute apart.
func recorded(t *testing.T, name string, most int) (answers []Answer) {
	t.Helper()
	for text := range recording.Versions(t, name) {
		if len(answers) == most {
			break
		}
		a := Answer{At: start.Add(time.Duration(len(answers)) * time.Minute), Took: 50 * time.Millisecond, Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Received: int64(300 + len(text))}
		if len(bytes.TrimSpace(text)) == 0 {
			a.Reason = "empty"
		} else {
			a.Text = text
		}
		answers = append(answers, a)
	}
	return answers
}

// TestRecordings: what is expected of real APIs was found by reading their
// answers.
func TestRecordings(t *testing.T) {
	for name, want := range map[string]struct {
		versions int
		lists    string
		failures int
	}{
		"ca-fires":    {120, "/AllYearIncidents by IncidentId, /Incidents by UniqueId, /ListIncidents by UniqueId", 4},
		"pge-outages": {30, " by F_OUTAGE_ID", 0},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := Analyse(Target{URL: "https://api.example/" + name, Interval: time.Minute}, recorded(t, name, want.versions))
			if err != nil {
				t.Fatal(err)
			}
			var text strings.Builder
			if err := r.WriteText(&text); err != nil {
				t.Fatal(err)
			}
			var lists []string
			for _, l := range r.Lists {
				lists = append(lists, l.Path+" by "+strings.Join(l.Keys[:min(1, len(l.Keys))], ""))
			}
			slices.Sort(lists)
			if got := strings.Join(lists, ", "); got != want.lists {
				t.Errorf("lists %s, want %s", got, want.lists)
			}
			if r.Failures["empty"] != want.failures || len(r.Numbers) > 0 || 20*r.Savings.StreamBytes > r.Savings.PollingBytes || 10*r.Changes.Event.Median > r.Changes.Document.Median {
				t.Error("what the API is like was not found")
			}
			if t.Failed() || testing.Verbose() {
				t.Log(text.String())
			}
		})
	}
}
