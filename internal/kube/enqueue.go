package kube

import (
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Enqueue adds an object to a work queue. One with a higher priority is reconciled earlier, if the queue has priorities.
func Enqueue(queue workqueue.TypedRateLimitingInterface[reconcile.Request], key types.NamespacedName, priority int) {
	request := reconcile.Request{NamespacedName: key}
	if by, ok := queue.(priorityqueue.PriorityQueue[reconcile.Request]); ok {
		by.AddWithOpts(priorityqueue.AddOpts{Priority: &priority}, request)
		return
	}
	queue.Add(request)
}
