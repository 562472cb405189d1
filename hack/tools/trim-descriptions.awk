# Removes from a CustomResourceDefinition of controller-gen all descriptions below the property that the variable `field`
# names. It keeps the description of that property itself.
function indent() { match($0, /^ */); return RLENGTH }

/[^ ]/ {
	if (in_field && indent() <= field_indent) in_field = 0
	if (dropping && indent() <= dropped_indent) dropping = 0
}
$0 ~ "^ *" field ":$" { in_field = 1; field_indent = indent() }
in_field && !dropping && /^ *description:/ && indent() > field_indent + 2 { dropping = 1; dropped_indent = indent() }
!dropping
