package queue

import (
	"iter"
	"maps"
	"slices"
)

// few is a map that has few entries most of the time: a tenant's queues and templates. Then it takes what they need, and not
// the room that a map keeps for eight; ten thousand tenants have two of them each.
type few[V any] struct {
	pairs []pair[V]
	// many is used instead from the ninth entry on.
	many map[string]V
}

type pair[V any] struct {
	key   string
	value V
}

const fewAtMost = 8

func (f *few[V]) get(key string) V {
	for i := range f.pairs {
		if f.pairs[i].key == key {
			return f.pairs[i].value
		}
	}
	return f.many[key]
}

// add an entry that is not there.
func (f *few[V]) add(key string, value V) {
	switch {
	case f.many != nil:
		f.many[key] = value
	case len(f.pairs) < fewAtMost:
		f.pairs = append(slices.Clip(f.pairs), pair[V]{key, value})
	default:
		f.many = map[string]V{key: value}
		for _, p := range f.pairs {
			f.many[p.key] = p.value
		}
		f.pairs = nil
	}
}

func (f *few[V]) remove(key string) {
	f.pairs = slices.DeleteFunc(f.pairs, func(p pair[V]) bool { return p.key == key })
	if delete(f.many, key); len(f.many) == 0 {
		f.many = nil
	}
}

func (f *few[V]) len() int { return len(f.pairs) + len(f.many) }

func (f *few[V]) all() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, p := range f.pairs {
			if !yield(p.value) {
				return
			}
		}
		for v := range maps.Values(f.many) {
			if !yield(v) {
				return
			}
		}
	}
}
