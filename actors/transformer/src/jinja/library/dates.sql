{% macro default__date(year, month, day) -%}
    to_date('{{ modules.datetime.date(year, month, day).strftime('%Y-%m-%d') }}', 'YYYY-MM-DD')
{%- endmacro %}
{% macro default__date_trunc(datepart, date) -%}date_trunc('{{ datepart }}', {{ date }}){%- endmacro %}
{% macro postgres__dateadd(datepart, interval, from_date_or_timestamp) -%}
    {{ from_date_or_timestamp }} + ((interval '1 {{ datepart }}') * ({{ interval }}))
{%- endmacro %}

{# Boundaries crossed between two times, not full periods between them. #}
{% macro postgres__datediff(first_date, second_date, datepart) -%}
    {%- set first, second = '(' ~ first_date ~ ')', '(' ~ second_date ~ ')' -%}
    {%- set days = '(' ~ second ~ '::date - ' ~ first ~ '::date)' -%}
    {%- set minutes -%}
        (({{ days }} * 24 + date_part('hour', {{ second }}::timestamp) - date_part('hour', {{ first }}::timestamp)) * 60
            + date_part('minute', {{ second }}::timestamp) - date_part('minute', {{ first }}::timestamp))
    {%- endset -%}
    {%- set years -%}
        (date_part('year', {{ second }}::date) - date_part('year', {{ first }}::date))
    {%- endset -%}
    {%- if datepart == 'year' -%}
        {{ years }}
    {%- elif datepart in ['quarter', 'month'] -%}
        ({{ years }} * {{ 4 if datepart == 'quarter' else 12 }}
            + date_part('{{ datepart }}', {{ second }}::date) - date_part('{{ datepart }}', {{ first }}::date))
    {%- elif datepart == 'day' -%}
        {{ days }}
    {%- elif datepart == 'week' -%}
        ({{ days }} / 7 + case
            when date_part('dow', {{ first }}::timestamp) <= date_part('dow', {{ second }}::timestamp)
                then case when {{ first }} <= {{ second }} then 0 else -1 end
            else case when {{ first }} <= {{ second }} then 1 else 0 end
        end)
    {%- elif datepart == 'hour' -%}
        ({{ days }} * 24 + date_part('hour', {{ second }}::timestamp) - date_part('hour', {{ first }}::timestamp))
    {%- elif datepart == 'minute' -%}
        {{ minutes }}
    {%- elif datepart in ['second', 'millisecond', 'microsecond'] -%}
        {%- set per_minute = {'second': 60, 'millisecond': 60000, 'microsecond': 60000000}[datepart] -%}
        ({{ minutes }} * {{ per_minute }}
            + floor(date_part('{{ datepart }}', {{ second }}::timestamp))
            - floor(date_part('{{ datepart }}', {{ first }}::timestamp)))
    {%- else -%}
        {{ exceptions.raise_compiler_error("Unsupported datepart for macro datediff in postgres: '" ~ datepart ~ "'") }}
    {%- endif -%}
{%- endmacro %}

{%- macro default_last_day(date, datepart) -%}
    cast({{ dbt.dateadd('day', '-1', dbt.dateadd(datepart, '1', dbt.date_trunc(datepart, date))) }} as date)
{%- endmacro -%}
{# An interval of PostgreSQL has no quarters. #}
{% macro postgres__last_day(date, datepart) -%}
    {%- if datepart == 'quarter' -%}
        cast({{ dbt.dateadd('day', '-1', dbt.dateadd('month', '3', dbt.date_trunc(datepart, date))) }} as date)
    {%- else -%}
        {{ dbt.default_last_day(date, datepart) }}
    {%- endif -%}
{%- endmacro %}

{% macro default__get_powers_of_two(upper_bound) -%}
    {%- if upper_bound <= 0 -%}
        {{ exceptions.raise_compiler_error('upper bound must be positive') }}
    {%- endif -%}
    {%- for _ in range(1, 100) -%}
        {%- if upper_bound <= 2 ** loop.index -%}{{ return(loop.index) }}{%- endif -%}
    {%- endfor -%}
{%- endmacro %}

{% macro default__generate_series(upper_bound) %}
    select generated_number
    from generate_series(1, {{ upper_bound }}) as series (generated_number)
    order by generated_number
{% endmacro %}

{% macro default__get_intervals_between(start_date, end_date, datepart) -%}
    {%- call statement('get_intervals_between', fetch_result=True) -%}
        select {{ dbt.datediff(start_date, end_date, datepart) }}
    {%- endcall -%}
    {%- set value_list = load_result('get_intervals_between') -%}
    {%- if value_list and value_list['data'] -%}
        {{ return(value_list['data'] | map(attribute=0) | first | int) }}
    {%- else -%}
        {{ return(1) }}
    {%- endif -%}
{%- endmacro %}

{% macro default__date_spine(datepart, start_date, end_date) %}
    with rawdata as (
        {{ dbt.generate_series(dbt.get_intervals_between(start_date, end_date, datepart)) }}
    ),

    all_periods as (
        select (
            {{ dbt.dateadd(datepart, "row_number() over (order by 1) - 1", start_date) }}
        ) as date_{{ datepart }}
        from rawdata
    ),

    filtered as (
        select *
        from all_periods
        where date_{{ datepart }} <= {{ end_date }}
    )

    select * from filtered
{% endmacro %}

{% macro convert_datetime(date_str, date_fmt) %}
    {{ return(modules.datetime.datetime.strptime(date_str.strip(), date_fmt)) }}
{% endmacro %}
