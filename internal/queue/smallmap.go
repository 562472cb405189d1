package queue

import (
	"iter"
	"slices"
)

// smallMap is a map for few entries, as a tenant's queues and templates are. A Go map has room for eight at least,
// which would be wasted twice for each of ten thousand tenants. smallMap takes only the room that its entries need.
type smallMap[V any] struct {
	pairs []pair[V]
	// large is used instead of pairs as soon as there are more than maxPairs entries, until all are removed.
	large map[string]V
}

type pair[V any] struct {
	key   string
	value V
}

const maxPairs = 8

func (m *smallMap[V]) get(key string) V {
	for i := range m.pairs {
		if m.pairs[i].key == key {
			return m.pairs[i].value
		}
	}
	return m.large[key]
}

// add adds an entry. There must be none with this key.
func (m *smallMap[V]) add(key string, value V) {
	switch {
	case m.large != nil:
		m.large[key] = value
	case len(m.pairs) < maxPairs:
		m.pairs = append(slices.Clip(m.pairs), pair[V]{key, value})
	default:
		m.large = map[string]V{key: value}
		for _, p := range m.pairs {
			m.large[p.key] = p.value
		}
		m.pairs = nil
	}
}

func (m *smallMap[V]) remove(key string) {
	m.pairs = slices.DeleteFunc(m.pairs, func(p pair[V]) bool { return p.key == key })
	if delete(m.large, key); len(m.large) == 0 {
		m.large = nil
	}
}

func (m *smallMap[V]) len() int { return len(m.pairs) + len(m.large) }

func (m *smallMap[V]) all() iter.Seq[V] {
	return func(yield func(V) bool) {
		for _, p := range m.pairs {
			if !yield(p.value) {
				return
			}
		}
		for _, v := range m.large {
			if !yield(v) {
				return
			}
		}
	}
}
