{% macro money(column, digits=none) -%}
    {{ return(adapter.dispatch('money', 'shop_tools')(column, digits)) }}
{%- endmacro %}

{% macro default__money(column, digits) -%}
    {{ rounded(column, digits or var('rounding', 0)) }}
{%- endmacro %}

{% macro rounded(column, digits) -%}
    round({{ column }}::numeric, {{ digits }})
{%- endmacro %}

{% macro union_of(relations, extra={}) -%}
    {%- set parts = [] -%}
    {%- for relation in relations -%}
        {%- set columns = [] -%}
        {%- for column in adapter.get_columns_in_relation(relation) -%}
            {%- do columns.append(column.quoted) -%}
        {%- endfor -%}
        {%- if execute -%}
            {%- do parts.append('select ' ~ columns | sort | join(', ') ~ ", '" ~ relation.identifier ~ "' as origin from " ~ relation) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ parts | join('\nunion all\n') }}
{%- endmacro %}

{% macro keyed(pairs) -%}
    {%- set out = {} -%}
    {%- for key, value in kwargs.items() -%}{%- do out.update({key: value}) -%}{%- endfor -%}
    {%- for pair in varargs -%}{%- do out.update({pair[0]: pair[1]}) -%}{%- endfor -%}
    {%- do out.update(pairs) -%}
    {{ return(out) }}
{%- endmacro %}
