package jsondiff

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestIDLike(t *testing.T) {
	for name, want := range map[string]bool{
		"id": true, "pid": true, "userId": true, "user_id": true, "userID": true, "USER_ID": true, "user-id": true, "user.id": true,
		"paid": false, "PAID": false, "Paid": false, "valid": false, "grid": false, "ide": false, "d": false, "": false, "übermid": false,
	} {
		if got := idLike([]byte(name)) >= 2; got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}

// TestNamedKey has a process list as monitoring tools send it: every item says
// which member is its key, and what is distinct by chance is not.
func TestNamedKey(t *testing.T) {
	process := func(pid, cpu int) string {
		return fmt.Sprintf(`{"cpu_percent":%d.%d,"key":"pid","memory":[%d,%d],"name":"worker","pid":%d,"status":"S","username":"root"}`, cpu%90, pid%10, pid*7, pid*13, pid)
	}
	list := func(pids []int, at int) []byte {
		var items []string
		for i, pid := range pids {
			cpu := pid % 3
			if i%9 == at {
				cpu += 5 + at
			}
			items = append(items, process(pid, cpu))
		}
		return []byte("[" + strings.Join(items, ",") + "]")
	}
	pids := upTo(60)
	old := list(pids, 0)
	moved := append([]int{70, 45, 12}, slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return pid == 45 || pid == 12 || pid == 30 })...)
	text := list(moved, 1)
	patch, err := Diff(old, text)
	if err != nil {
		t.Fatal(err)
	}
	checkPatch(t, old, text, patch)
	if len(patch) > len(text)/4 {
		t.Errorf("a patch of %d bytes for a document of %d", len(patch), len(text))
	}
	if got := likelyKey(mustParse(t, process(1, 2)), 0); string(got) != "pid" {
		t.Errorf("key %q, want pid", got)
	}
	if got := likelyKey(mustParse(t, `{"key":"none","id":1}`), 0); string(got) != "key" {
		t.Errorf("key %q, want key", got)
	}
}

func mustParse(t *testing.T, text string) *source {
	t.Helper()
	s, err := parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return &s
}

// TestKeyedElementsAreMoved: elements that changed places are moved, and not
// written anew, even if each of them has changed and the next ones are in step
// again: so do processes, in the order of the time that they took.
func TestKeyedElementsAreMoved(t *testing.T) {
	format := `{"seen":%d,"name":"` + strings.Repeat("name # ", 40) + `","key":"pid","pid":#}`
	for _, order := range [][]int{
		{1, 0, 2, 3, 4, 5, 6, 7}, {2, 1, 0, 3, 4, 5, 6, 7}, {2, 0, 1, 3, 4, 5, 6, 7}, {3, 2, 1, 0, 4, 5, 6, 7},
		{0, 1, 2, 6, 4, 5, 3, 7}, {2, 1, 0, 3, 6, 5, 4, 7}, {1, 0, 3, 2, 5, 4, 7, 6}, {0, 1, 7, 3, 4, 5, 6, 2},
		{0, 1, 2, 9, 4, 5, 6, 7}, {9, 1, 3, 2, 4, 5, 6, 7}, {2, 1, 9, 3, 4, 5, 0, 7},
	} {
		old, text := listOf(upTo(8), fmt.Sprintf(format, 1)), listOf(order, fmt.Sprintf(format, 2))
		patch, err := Diff(old, text)
		if err != nil {
			t.Fatal(err)
		}
		checkPatch(t, old, text, patch)
		added := 0
		for _, i := range order {
			if i >= 8 {
				added += len(format)
			}
		}
		if most := len(`{"op":"replace","path":"/0/seen","value":2},`)*16 + added; len(patch) > most {
			t.Errorf("%v: a patch of %d bytes, want at most %d: %.300s", order, len(patch), most, patch)
		}
	}
}

// TestFewElementsByPlace: few elements are edited in their places where that is
// smaller than to move, add and remove some, as where little stays of any.
func TestFewElementsByPlace(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	list := func() []byte {
		var rows []string
		for _, id := range random.Perm(9)[:1+random.IntN(6)] {
			v := 0
			if id > 2 {
				v = random.IntN(2) * random.IntN(1000)
			}
			rows = append(rows, fmt.Sprintf(`{"pid":%d,"cpu":[%d],"name":"%s","mem":%[2]d,"a":%[2]d,"b":%[2]d}`, id, v, strings.Repeat(fmt.Sprint(v), 20)))
		}
		return fmt.Appendf(nil, `{"now":%d,"top":[%s]}`, random.IntN(10), strings.Join(rows, ","))
	}
	pairs := 20_000
	if testing.Short() || raceEnabled {
		pairs = 2_000
	}
	for range pairs {
		old, text := list(), list()
		patch, err := Diff(old, text)
		if err != nil {
			t.Fatal(err)
		}
		checkPatch(t, old, text, patch)
		// Without any search, elements belong together by their place.
		byPlace, err := Options{Limits: Limits{Work: 1}}.Diff(old, text)
		if err != nil {
			t.Fatal(err)
		}
		if len(patch) > len(byPlace) {
			t.Fatalf("%s to %s: %s is longer than %s", old, text, patch, byPlace)
		}
	}
}
