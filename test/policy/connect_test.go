package policy_test

import (
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// There is no node that could answer. A request that no policy refuses fails for that reason.
func TestAccessToPods(t *testing.T) {
	w := newWorld(t)
	acme, audited := w.acme.NamespaceName(), w.audited.NamespaceName()
	for _, subresource := range []string{"attach", "exec", "portforward", "proxy"} {
		for name, test := range map[string]struct {
			as             user
			namespace, pod string
			refused        bool
		}{
			"developer":                     {developer, acme, w.pod.Name, true},
			"root":                          {root, acme, w.pod.Name, false},
			"developer, in the phase Audit": {developer, audited, w.auditedPod.Name, false},
		} {
			t.Run(subresource+" by "+name, func(t *testing.T) {
				err := connect(test.as.clientset(t).CoreV1().RESTClient(), subresource, test.namespace, test.pod)(t)
				switch got := isRefusedByPolicy(err); {
				case got != test.refused:
					t.Errorf("refused by a policy: %t (%v), want %t", got, err, test.refused)
				case got && !strings.Contains(err.Error(), "that takes the verb access on tenants.tenantry.dev"):
					t.Error(err)
				}
			})
		}
	}
}

func connect(c rest.Interface, subresource, namespace, pod string) func(*testing.T) error {
	return func(t *testing.T) error {
		t.Helper()
		request := c.Post().Resource("pods").Namespace(namespace).Name(pod).SubResource(subresource).Param("container", "main")
		if subresource == "exec" {
			request = request.Param("command", "id")
		}
		return request.Do(t.Context()).Error()
	}
}
