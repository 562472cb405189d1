package controller

import (
	"context"
	"fmt"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// shelf is a look at all objects of a kind in the cache, without copies of them and without the index entries that
// controller-runtime makes for each namespace: of ten thousand objects in as many namespaces those would weigh as much as
// the objects. What it returns is for reading only.
type shelf[T client.Object] struct{ toolscache.Indexer }

// openShelf returns that of a kind, with indexes of its own. It has to be called before the cache is started.
func openShelf[T client.Object](c cache.Cache, kind client.Object, indexes toolscache.Indexers) (shelf[T], error) {
	informer, err := c.GetInformer(context.Background(), kind)
	if err != nil {
		return shelf[T]{}, fmt.Errorf("watching %T: %w", kind, err)
	}
	known, ok := informer.(toolscache.SharedIndexInformer)
	if !ok {
		return shelf[T]{}, fmt.Errorf("watching %T: unexpected %T", kind, informer)
	}
	if err := known.AddIndexers(indexes); len(indexes) > 0 && err != nil {
		return shelf[T]{}, fmt.Errorf("indexing %T: %w", kind, err)
	}
	return shelf[T]{known.GetIndexer()}, nil
}

// by returns the objects that an index finds under a value.
func (s shelf[T]) by(index, value string) []T {
	found, err := s.ByIndex(index, value)
	if err != nil {
		return nil // There is no such index, which openShelf would have said.
	}
	all := make([]T, 0, len(found))
	for _, obj := range found {
		all = append(all, obj.(T))
	}
	return all
}

// get returns an object by its namespace, if it has one, and its name. False means that the cache has none.
func (s shelf[T]) get(key client.ObjectKey) (T, bool) {
	var none T
	name := key.Name
	if key.Namespace != "" {
		name = key.Namespace + "/" + key.Name
	}
	obj, exists, err := s.GetByKey(name)
	if err != nil || !exists {
		return none, false
	}
	return obj.(T), true
}
