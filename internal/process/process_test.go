package process

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log Transcript
		running, ended := make(chan struct{}), make(chan struct{})
		close(ended)
		go func() {
			for _, text := range []string{"serv", "ing", " now"} {
				time.Sleep(time.Second)
				_, _ = log.Write([]byte(text))
			}
		}()
		if err := log.Await("serving", running, time.Minute); err != nil {
			t.Error(err)
		}
		if err := log.Await("serving", ended, time.Minute); err != nil {
			t.Errorf("it was written before the end: %v", err)
		}
		if err := log.Await("gone", running, time.Minute); err == nil || !strings.Contains(err.Error(), `did not write "gone" within 1m0s`) || !strings.HasSuffix(err.Error(), "serving now") {
			t.Errorf("%v", err)
		}
		if err := log.Await("gone", ended, time.Minute); err == nil || !strings.Contains(err.Error(), `ended before it wrote "gone"`) {
			t.Errorf("%v", err)
		}
	})
}
