package pollsse

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// nameTable has the default names of upstream URLs as configured: the URL as it
// is shown, with #2, #3 and so on behind it if other URLs are shown the same
// way. A URL keeps its name for the life of the process. The table grows with
// the number of different URLs that were configured.
type nameTable struct {
	mu   sync.Mutex
	urls map[string][][sha256.Size]byte // digests of the URLs shown alike, in the order of their numbers
}

// name returns the name of a URL, and makes one if there is none.
func (t *nameTable) name(url string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	shown, digest := upstream.Redact(url), sha256.Sum256([]byte(url))
	i := slices.Index(t.urls[shown], digest)
	if i < 0 {
		if t.urls == nil {
			t.urls = make(map[string][][sha256.Size]byte)
		}
		i = len(t.urls[shown])
		t.urls[shown] = append(t.urls[shown], digest)
	}
	return numbered(shown, i)
}

// find returns the name of a URL that has one, or else text itself, which may be
// a name already.
func (t *nameTable) find(text string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	shown := upstream.Redact(text)
	if i := slices.Index(t.urls[shown], sha256.Sum256([]byte(text))); i >= 0 {
		return numbered(shown, i)
	}
	return text
}

func numbered(shown string, i int) string {
	if i == 0 {
		return shown
	}
	return fmt.Sprintf("%s#%d", shown, i+1)
}
