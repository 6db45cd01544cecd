{#- A defect on a good unit, or a failed unit that names none. -#}
{% test defect_iff_failed(model, status_column, failed_status, defect_column) %}
select {{ status_column }}, {{ defect_column }}
from {{ model }}
where ({{ status_column }} = '{{ failed_status }}') <> ({{ defect_column }} is not null)
{% endtest %}
