{% macro dbt_statuses() %}
    {%- set query -%}
        select distinct status from {{ ref('stg_orders') }} order by 1
    {%- endset -%}
    {%- if execute -%}
        {%- set found = run_query(query).columns[0].values() -%}
    {%- else -%}
        {%- set found = [] -%}
    {%- endif -%}
    {{ return(found) }}
{% endmacro %}

{% macro log_results(results) %}
    {%- if execute -%}
        {%- for result in results -%}
            {%- do log(result.node.unique_id ~ ' ' ~ result.status, info=false) -%}
        {%- endfor -%}
    {%- endif -%}
    select 1
{% endmacro %}

{% macro note(what='nothing') %}
    {% do run_query("insert into " ~ target.schema ~ ".run_log (what) values ('" ~ what ~ "'); commit") %}
{% endmacro %}
