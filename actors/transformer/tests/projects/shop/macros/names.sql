{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- if custom_schema_name is none -%}
        {{ target.schema }}
    {%- else -%}
        {{ custom_schema_name | trim }}
    {%- endif -%}
{%- endmacro %}

{% macro cents_to_euros(column) -%}
    {{ return(adapter.dispatch('cents_to_euros')(column)) }}
{%- endmacro %}

{% macro default__cents_to_euros(column) -%}
    round({{ column }} / 100.0, 2)
{%- endmacro %}
