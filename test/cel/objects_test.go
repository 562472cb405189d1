package cel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/tenantry/tenantry/api/v1alpha1"
)

// minimal is the least valid spec of each kind.
var minimal = map[string]string{
	"Tenant": `{}`,
	"TenantJobTemplate": `
jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: example.com/job}]}}}}`,
	"TenantJob": `
tenantRef: {name: acme}
templateRef: {name: report}`,
	"TenantFanOut": `
templateRef: {name: report}
tenants: {all: true}`,
	"TenantSchedule": `
schedule: "0 2 * * *"
fanOutTemplate: {spec: {templateRef: {name: report}, tenants: {all: true}}}`,
	"TenantQueue":        `{}`,
	"CredentialProvider": `secret: {}`,
}

// newObject is an object of a kind with the least valid spec.
func newObject(kind, name string) *unstructured.Unstructured {
	obj := &unstructured.Unstructured{Object: map[string]any{"spec": parse(minimal[kind])}}
	obj.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	obj.SetName(name)
	if kind == "TenantJob" {
		obj.SetNamespace("default")
	}
	return obj
}

// absent is what put takes for a value to be taken out.
const absent = "absent"

// put sets the field at a dotted path to a value in YAML.
func put(obj *unstructured.Unstructured, path, value string) {
	fields := strings.Split(path, ".")
	at, last := obj.Object, fields[len(fields)-1]
	for _, field := range fields[:len(fields)-1] {
		child, ok := at[field].(map[string]any)
		if !ok {
			child = map[string]any{}
			at[field] = child
		}
		at = child
	}
	if value == absent {
		delete(at, last)
		return
	}
	at[last] = parse(value)
}

// parse reads YAML as the API machinery does, whole numbers as integers.
func parse(text string) any {
	content, err := yaml.YAMLToJSON([]byte(text))
	utilruntime.Must(err)
	var value any
	utilruntime.Must(json.Unmarshal(content, &value))
	return value
}

// decodeFile reads the one object of a file.
func decodeFile[T any](file string) *T {
	text, err := os.ReadFile(file)
	utilruntime.Must(err)
	obj := new(T)
	utilruntime.Must(yaml.UnmarshalStrict(text, obj))
	return obj
}

// decodeAll reads the objects of a file of several documents.
func decodeAll(text []byte) []*unstructured.Unstructured {
	var objs []*unstructured.Unstructured
	for docs := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		obj := &unstructured.Unstructured{}
		err := docs.Decode(obj)
		switch {
		case errors.Is(err, io.EOF):
			return objs
		case err != nil:
			panic(err)
		}
		if len(obj.Object) > 0 {
			objs = append(objs, obj)
		}
	}
}

// installCRD applies a CustomResourceDefinition as `make install` does, and waits until it is served.
func installCRD(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition) error {
	if err := applyCRD(ctx, crd); err != nil {
		return fmt.Errorf("applying CustomResourceDefinition %s: %w", crd.Name, err)
	}
	return eventually(ctx, "CustomResourceDefinition "+crd.Name+" to be served", func(ctx context.Context) (bool, error) {
		var live apiextensionsv1.CustomResourceDefinition
		err := kube.Get(ctx, client.ObjectKeyFromObject(crd), &live)
		return conditionTrue(&live, apiextensionsv1.Established), err
	})
}

func applyCRD(ctx context.Context, crd *apiextensionsv1.CustomResourceDefinition) error {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(crd)
	if err != nil {
		return err
	}
	obj := &unstructured.Unstructured{Object: content}
	unstructured.RemoveNestedField(obj.Object, "status")
	obj.SetGroupVersionKind(apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"))
	return apply(ctx, obj)
}

// apply is a server-side apply. The object becomes what the API server answers.
func apply(ctx context.Context, obj *unstructured.Unstructured) error {
	return kube.Apply(ctx, client.ApplyConfigurationFromUnstructured(obj), manager, client.ForceOwnership)
}

func conditionTrue(crd *apiextensionsv1.CustomResourceDefinition, condition apiextensionsv1.CustomResourceDefinitionConditionType) bool {
	for _, c := range crd.Status.Conditions {
		if c.Type == condition {
			return c.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}

// patience is how long a test waits for a state. It only has to be more than a slow machine needs that has other work to do.
const patience = 4 * time.Minute

// eventually waits until a condition holds.
func eventually(ctx context.Context, what string, condition wait.ConditionWithContextFunc) error {
	if err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, patience, true, condition); err != nil {
		return fmt.Errorf("waiting for %s: %w", what, err)
	}
	return nil
}
