package kube

import (
	"context"
	"fmt"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Lister reads the objects of one kind from the cache. It makes no copies, and lacks the index entries that
// controller-runtime makes for each namespace: of ten thousand objects in as many namespaces those would take as much
// memory as the objects. What it returns is for reading only.
type Lister[T client.Object] struct{ indexer toolscache.Indexer }

// NewLister returns the Lister of the kind of obj, and adds indexes to the cache. Call it before the cache is started.
func NewLister[T client.Object](c cache.Cache, obj client.Object, indexes toolscache.Indexers) (Lister[T], error) {
	informer, err := c.GetInformer(context.Background(), obj)
	if err != nil {
		return Lister[T]{}, fmt.Errorf("watching %s: %w", KindOf(obj), err)
	}
	shared, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return Lister[T]{}, fmt.Errorf("watching %s: unexpected %T", KindOf(obj), informer)
	}
	if err := shared.AddIndexers(indexes); len(indexes) > 0 && err != nil {
		return Lister[T]{}, fmt.Errorf("indexing %s: %w", KindOf(obj), err)
	}
	return ListerOf[T](shared.GetIndexer()), nil
}

// ListerOf returns the Lister of what an indexer holds.
func ListerOf[T client.Object](indexer toolscache.Indexer) Lister[T] { return Lister[T]{indexer} }

// Get returns an object by its namespace, if its kind has one, and its name. False means that the cache has none.
func (l Lister[T]) Get(key client.ObjectKey) (T, bool) {
	var none T
	name := key.Name
	if key.Namespace != "" {
		name = key.Namespace + "/" + key.Name
	}
	obj, exists, err := l.indexer.GetByKey(name)
	if err != nil || !exists {
		return none, false
	}
	return obj.(T), true
}

// All returns all objects.
func (l Lister[T]) All() []T { return cast[T](l.indexer.List()) }

// In returns the objects in a namespace.
func (l Lister[T]) In(namespace string) []T { return l.By(toolscache.NamespaceIndex, namespace) }

// By returns the objects that an index has under a value.
func (l Lister[T]) By(index, value string) []T {
	found, err := l.indexer.ByIndex(index, value)
	if err != nil {
		return nil // There is no such index, which NewLister would have said.
	}
	return cast[T](found)
}

func cast[T any](objects []any) []T {
	all := make([]T, 0, len(objects))
	for _, obj := range objects {
		all = append(all, obj.(T))
	}
	return all
}
