package queue

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSmallMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var m smallMap[int]
	want := map[string]int{}
	for range 10000 {
		key := fmt.Sprint(random.IntN(3 * maxPairs))
		if _, there := want[key]; there {
			delete(want, key)
			m.remove(key)
		} else {
			want[key] = random.Int()
			m.add(key, want[key])
		}
		if m.get(key) != want[key] || m.len() != len(want) {
			t.Fatalf("%s is %d of %d, want %d of %d", key, m.get(key), m.len(), want[key], len(want))
		}
		if got := slices.Sorted(m.all()); !slices.Equal(got, slices.Sorted(maps.Values(want))) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}
