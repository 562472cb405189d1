package queue

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestFew(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var f few[int]
	want := map[string]int{}
	for range 10000 {
		key := fmt.Sprint(random.IntN(3 * fewAtMost))
		if _, there := want[key]; there {
			delete(want, key)
			f.remove(key)
		} else {
			want[key] = random.Int()
			f.add(key, want[key])
		}
		if f.get(key) != want[key] || f.len() != len(want) {
			t.Fatalf("%s is %d of %d, want %d of %d", key, f.get(key), f.len(), want[key], len(want))
		}
		if got := slices.Sorted(f.all()); !slices.Equal(got, slices.Sorted(maps.Values(want))) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}
